"""``dtx.load``: an artefact of a store, or an exported folder, for use in Python.

No stage is run, and nothing in an artefact is executed: weights are safetensors, tables are parquet, and a
record's config is read as plain values.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtx.errors import UserError
from dtx.exchange.lookup import kind_of, label_or_hint, lineage, of_group
from dtx.exchange.origin import LINEAGE, Origin
from dtx.files import read_json, refuse_links
from dtx.store.checksums import check_record
from dtx.store.label import Label, Labelled
from dtx.store.store import Store, current

if TYPE_CHECKING:
    from dtx.env.environment import Environment
    from dtx.exchange.handles import Loaded
    from dtx.stage import Stage

GROUPS = ("dt", "agent", "dataset", "pairs", "activations", "dictionary", "analysis")


def load(
    group: str,
    which: str | None = None,
    *overrides: str,
    store: Path | str | Store | None = None,
    path: Path | str | None = None,
    config_dir: Path | str | None = None,
    **fields: Any,
) -> Loaded:
    """Load what a stage made; see :func:`dtx.load`."""
    if group not in GROUPS:
        from dtx.text import suggest

        raise UserError(f"dtx.load: no group {group!r}{suggest(group, GROUPS)}")
    folders = folder_of(config_dir)
    if path is not None:
        if which or overrides or fields:
            raise UserError("dtx.load: path=FOLDER names everything; leave out the rest")
        return _handle(group, exported(Path(path), folders))
    place = _store(store)
    overrides = (*overrides, *as_overrides(fields))
    choice = _choice(group, which, folders)
    if choice is not None:
        return _handle(group, _configured(group, [*choice, *overrides], place, folders))
    assert which is not None
    label = label_or_hint(place, which, group)
    if overrides:
        raise UserError(f"dtx.load: {label} is an artefact; overrides go with a config's name")
    return _handle(group, _stored(Label(label), place, folders))


def of_stage(stage: Stage, store: Store, config_dir: Path | None) -> Loaded:
    """The handle on a stage's artefact, which is in the store."""
    origin = _stored(stage, store, config_dir, stage)
    return _handle(kind_of(origin.folder), origin)


def folder_of(config_dir: Path | str | None) -> Path | None:
    """The user's own configs: what is given, else ``./conf`` if it is there."""
    from dtx.config.options import own_configs

    return own_configs() if config_dir is None else Path(config_dir)


def as_overrides(fields: Mapping[str, Any]) -> list[str]:
    """Python values as the command line has them."""
    return [f"{name}={_text(value)}" for name, value in fields.items()]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _store(store: Path | str | Store | None) -> Store:
    if store is None:
        return current()
    return store if isinstance(store, Store) else Store(store)


# --- by config ---------------------------------------------------------------------------------------


def _choice(group: str, which: str | None, config_dir: Path | None) -> list[str] | None:
    """Overrides that choose a config by its name; None if no config has this name."""
    from dtx.config.options import options

    if which is None:
        return [f"target={group}"]
    known = options(config_dir)
    if which in (o.name for o in known[group]):
        chosen = f"analysis=[{which}]" if group == "analysis" else f"{group}={which}"
        return [chosen, f"target={group}"]
    if which in (o.name for o in known["experiment"]):
        return [f"experiment={which}", f"target={group}"]
    return None


def _configured(group: str, overrides: list[str], store: Store, config_dir: Path | None) -> Origin:
    """The artefact of the stage that a config describes."""
    from dtx.config.build import Builder
    from dtx.config.compose import compose, experiment

    built = experiment(compose(overrides, config_dir), overrides)
    if len(built.targets) > 1:
        raise UserError(f"dtx.load: which analysis? {', '.join(built.targets)}")
    (stage,) = built.targets.values()
    if not store.has(stage):
        there = ", ".join(of_group(store, group)) or "none"
        command = " ".join(_quoted([*overrides, *_where(store)]))
        raise UserError(
            f"{stage.label} is not in the store {store.root}: run `dtx run {command}`; "
            f"of this kind there are: {there}"
        )
    env: Environment = Builder(built.raw).at("env", object)
    return dataclasses.replace(_stored(stage, store, config_dir, stage), env=env)


def _where(store: Store) -> list[str]:
    return [] if store.root == Path("store").absolute() else [f"store.path={store.root}"]


def _quoted(words: Iterable[str]) -> list[str]:
    import shlex

    return [shlex.quote(word) for word in words]


def _stored(
    artefact: Labelled, store: Store, config_dir: Path | None, stage: Stage | None = None
) -> Origin:
    folder, record = store.artefact(artefact), store.done(artefact)
    return Origin(folder, record, lineage(store, record), store, config_dir, stage)


# --- from an exported folder -------------------------------------------------------------------------


def exported(folder: Path, config_dir: Path | None) -> Origin:
    """A folder that ``dtx export`` wrote, or any with an artefact's files."""
    if not folder.is_dir():
        raise UserError(f"dtx.load: no folder {folder}")
    refuse_links(folder)
    record: dict[str, Any] = {}
    for name in (LINEAGE, "done.json"):
        if (folder / name).is_file():
            try:
                record = check_record(read_json(folder / name))
                break
            except (OSError, ValueError) as error:
                raise UserError(f"{folder / name}: cannot be read ({error})") from None
    records = record.get("records", {})
    return Origin(folder.absolute(), record, records, None, config_dir)


def _handle(group: str, origin: Origin) -> Loaded:
    kind = kind_of(origin.folder)
    if kind != group:
        raise UserError(f"{origin.folder} holds no {group}: it looks like a {kind}")
    from dtx.exchange import handles

    if group == "dt":
        from dtx.exchange.model_handle import LoadedModel

        return LoadedModel(origin)
    kinds = {
        "agent": handles.LoadedAgent,
        "dataset": handles.LoadedDataset,
        "pairs": handles.LoadedPairs,
        "activations": handles.LoadedActivations,
        "dictionary": handles.LoadedDictionaries,
        "analysis": handles.LoadedAnalysis,
    }
    return kinds[group](origin)
