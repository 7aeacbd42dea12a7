"""``dtx.load``: an artefact of a store, or an exported folder, for use in Python.

Nothing here runs a stage, and nothing that stands in an artefact is executed: weights are safetensors, tables
are parquet, and a record's config is read as plain values.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtx.errors import UserError

if TYPE_CHECKING:
    from dtx.exchange.handles import Loaded
    from dtx.stage import Stage
    from dtx.store.store import Store

GROUPS = ("dt", "agent", "dataset", "pairs", "analysis")
LINEAGE = "lineage.json"
"""In an exported folder: where the model comes from."""
_SHORTEST, _TOLD = 4, 8


@dataclass(frozen=True)
class Origin:
    """Where a loaded artefact stands and what is known about it.

    Attributes:
        folder: Its files, verified. record: Its ``done.json`` as data.
        records: The records of all that it was made from, by label, as far as they are there.
        store: None for an exported folder. config_dir: The user's own configs.
        stage: The stage, where a config named it. env: The environment that this config has.
    """

    folder: Path
    record: Mapping[str, Any]
    records: Mapping[str, Mapping[str, Any]]
    store: Store | None
    config_dir: Path | None
    stage: Stage | None = None
    env: Any = None


@dataclass(frozen=True)
class Label:
    """What a store must know of a stage to find its folder."""

    label: str


def load(
    group: str,
    which: str | None = None,
    *overrides: str,
    store: Path | str | Store | None = None,
    path: Path | str | None = None,
    config_dir: Path | str | None = None,
    **fields: Any,
) -> Any:
    """Load what a stage made; see :func:`dtx.load`."""
    if group not in GROUPS:
        from dtx.text import suggest

        raise UserError(f"dtx.load: no group {group!r}{suggest(group, GROUPS)}")
    folders = _own(config_dir)
    if path is not None:
        if which or overrides or fields:
            raise UserError("dtx.load: path=FOLDER names everything; leave the rest away")
        return _handle(group, exported(Path(path), folders))
    place = _store(store)
    overrides = (*overrides, *(f"{name}={_text(value)}" for name, value in fields.items()))
    choice = _choice(group, which, folders)
    if choice is not None:
        return _handle(group, _configured(group, [*choice, *overrides], place, folders))
    assert which is not None
    labels = _labels(group, which, place)
    if overrides:
        raise UserError(f"dtx.load: {labels[0]} is what it is; overrides go with a config's name")
    return _handle(group, _stored(labels[0], place, folders))


def _own(config_dir: Path | str | None) -> Path | None:
    from dtx.config.options import own_configs

    return own_configs() if config_dir is None else Path(config_dir)


def _store(store: Path | str | Store | None) -> Store:
    from dtx.store.store import Store, current

    if store is None:
        return current()
    return store if isinstance(store, Store) else Store(store)


def _text(value: Any) -> str:
    """A Python value as Hydra reads it on the command line."""
    return value if isinstance(value, str) else json.dumps(value)


# --- by config ---------------------------------------------------------------------------------------


def _choice(group: str, which: str | None, config_dir: Path | None) -> list[str] | None:
    """Overrides that choose a config by its name; None if it is no config's name."""
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
        there = ", ".join(_of_group(store, group)) or "none"
        command = " ".join(_quoted([*overrides, *_where(store)]))
        raise UserError(
            f"{stage.label} is not in the store {store.root}: run `dtx run {command}`; "
            f"of this kind there are: {there}"
        )
    builder = Builder(built.raw)
    env = builder.at("env", object)
    return dataclasses.replace(_stored(stage.label, store, config_dir, stage), env=env)


def _where(store: Store) -> list[str]:
    return [] if store.root == Path("store").absolute() else [f"store.path={store.root}"]


def _quoted(words: Iterable[str]) -> list[str]:
    import shlex

    return [shlex.quote(word) for word in words]


# --- by label or key ---------------------------------------------------------------------------------


def kind_of(folder: Path) -> str:
    """The group that an artefact belongs to, told by its files."""
    if (folder / "weights.safetensors").is_file() and (folder / "model.json").is_file():
        try:
            described = json.loads((folder / "model.json").read_text())
        except (OSError, ValueError):
            described = {}
        return "dt" if "n_ctx" in described else "agent"
    published = [folder / name for name in ("weights.safetensors", "published.json")]
    if all(path.is_file() for path in published) or (folder / "model.zip").is_file():
        return (
            "agent"  # dtx.agent.imported, or dtx.agent.sb3 with a policy that has to be unpickled
        )
    if (folder / "steps.arrow").is_file():
        return "dataset"
    return "pairs" if (folder / "runs.npz").is_file() else "analysis"


def matching(store: Store, which: str, group: str | None = None) -> list[str]:
    """Labels in the store that begin with ``which``, or whose key does, newest first."""
    from dtx.store.inventory import artefacts, existing

    labels = [a.label for a in artefacts(existing(store.root))]
    if which in labels:
        labels = [which]
    found = [
        label
        for label in labels
        if label.startswith(which)
        or (len(which) >= _SHORTEST and label.rpartition("-")[2].startswith(which))
    ]
    return [label for label in found if group in (None, kind_of(store.root / label))]


def one_of(store: Store, which: str, group: str | None = None) -> str:
    """The label that ``which`` means.

    Raises:
        UserError: None or several begin so.
    """
    found = matching(store, which, group)
    if len(found) == 1:
        return found[0]
    if found:
        more = f" and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
        raise UserError(
            f"{which!r} may mean {', '.join(found[:_TOLD])}{more}: give more of the label"
        )
    kind = group or "artefact"
    there = ", ".join(_of_group(store, group)) or "none"
    raise UserError(
        f"{which!r}: no {kind} of the store {store.root} begins so, nor a key; there are: {there}"
    )


def _labels(group: str, which: str, store: Store) -> list[str]:
    try:
        return [one_of(store, which, group)]
    except UserError as error:
        from dtx.config.options import options

        if "may mean" in str(error):
            raise
        names = [o.name for o in options().get(group, [])]
        raise UserError(f"{error}; or a config: {', '.join(names)}") from None


def _of_group(store: Store, group: str | None) -> list[str]:
    from dtx.store.inventory import artefacts

    if not store.root.is_dir():
        return []
    labels = [a.label for a in artefacts(store.root)]
    return sorted(label for label in labels if group in (None, kind_of(store.root / label)))


def _stored(
    label: str, store: Store, config_dir: Path | None, stage: Stage | None = None
) -> Origin:
    named: Any = stage or Label(label)
    folder = store.artefact(named)
    record = store.done(named)
    return Origin(folder, record, lineage(store, record), store, config_dir, stage)


def lineage(store: Store, record: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Records of all that an artefact was made from, by label, as far as they are in the store."""
    found: dict[str, Mapping[str, Any]] = {}
    todo = list(record.get("inputs", {}).values())
    while todo:
        label = todo.pop(0)
        if label in found or not (store.root / label).is_dir():
            continue
        found[label] = store.done(Label(label))  # type: ignore[arg-type]
        todo += found[label].get("inputs", {}).values()
    return found


# --- from an exported folder -------------------------------------------------------------------------


def exported(folder: Path, config_dir: Path | None) -> Origin:
    """A folder that ``dtx export`` wrote, or any with an artefact's files."""
    if not folder.is_dir():
        raise UserError(f"dtx.load: no folder {folder}")
    known: dict[str, Any] = {}
    for name in (LINEAGE, "done.json"):
        if (folder / name).is_file():
            try:
                known = json.loads((folder / name).read_text())
                break
            except (OSError, ValueError) as error:
                raise UserError(f"{folder / name}: cannot be read ({error})") from None
    records = known.get("records", {})
    return Origin(folder.absolute(), known, records, None, config_dir)


def _handle(group: str, origin: Origin) -> Loaded:
    kind = kind_of(origin.folder)
    if kind != group:
        raise UserError(f"{origin.folder} holds no {group}: it looks like a {kind}")
    from dtx.exchange import handles as loaded

    if group == "dt":
        from dtx.exchange.model_handle import LoadedModel

        return LoadedModel(origin)
    kinds: Mapping[str, type[Loaded]] = {
        "agent": loaded.LoadedAgent,
        "dataset": loaded.LoadedDataset,
        "pairs": loaded.LoadedPairs,
        "analysis": loaded.Loaded,
    }
    return kinds[group](origin)


def labels_with(
    store: Store, label: str, groups: Sequence[str]
) -> list[tuple[str, str, Mapping[str, Any]]]:
    """What was made from an artefact: (label, field that it stands in, record), oldest first."""
    from dtx.store.inventory import artefacts

    found = []
    for artefact in reversed(artefacts(store.root)):
        if kind_of(artefact.folder) not in groups:
            continue
        for field, given in artefact.record.get("inputs", {}).items():
            if given == label:
                found.append((artefact.label, field, artefact.record))
    return found
