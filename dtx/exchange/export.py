"""Export a trained model as a folder: weights, description, model card, lineage, figures.

``dtx.load("dt", path=FOLDER)`` reads it back. Host names and paths of this machine are left out.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dtx.beside import BUILDING, building, put
from dtx.errors import UserError
from dtx.exchange.handover import Handover, Reading
from dtx.exchange.lookup import lineage, readers_of
from dtx.exchange.model_card import card
from dtx.exchange.origin import LINEAGE
from dtx.exchange.recorded_result import recorded_result
from dtx.files import read_json
from dtx.report import HEADLINE, read_metrics, write_atomically
from dtx.store.label import Label
from dtx.store.store import Store

MODEL_FILES = ("weights.safetensors", "model.json", HEADLINE)
OTHER_FILES = ("circuit.json", "published.json")
"""Of a planted or an imported model."""
_KEPT = (
    "stage",
    "class",
    "version",
    "key",
    "config",
    "inputs",
    "packages",
    "python",
    "finished",
    "seconds",
)


def export(
    store: Store, label: str, kind: str, out: Path, licence: str, replace: bool = False
) -> tuple[Handover, bool]:
    """Write the folder.

    Args:
        store: With the artefact.
        label: Of a dt or an agent.
        kind: ``dt`` or ``agent``.
        out: The folder; made if it is not there. It must be empty, or an earlier export.
        licence: An identifier for the card (``mit``, ``cc-by-4.0``).
        replace: Whether an earlier export with another content is replaced.

    Returns:
        What was handed over, and whether something was written: False if it was all there.

    Raises:
        UserError: The folder holds something else, or cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: give a folder")
    try:
        with building(out) as scratch:
            new = scratch / "new"
            what = _built(store, label, kind, new, licence)
            ours = {path.name for path in new.iterdir()}
            there = {p.name for p in (out.iterdir() if out.is_dir() else ())}
            there = {name for name in there if not name.startswith(BUILDING)}
            if not there <= ours and not (out / LINEAGE).is_file():
                raise UserError(
                    f"{out} is neither empty nor an exported model: give another folder"
                )
            names = {path.relative_to(new) for path in new.rglob("*")}
            advice = "give another folder, or --force to write over it"
            written = put(new, out, advice, replace=replace)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from None
    if replace:
        _remove_earlier(out, names)
    return what, written


def _remove_earlier(out: Path, names: set[Path]) -> None:
    """Remove what an earlier export wrote and this one does not; other files are the user's."""
    for path in (*(out / name for name in OTHER_FILES), *(out / "figures").glob("*.png")):
        if path.relative_to(out) not in names:
            path.unlink(missing_ok=True)


def _built(store: Store, label: str, kind: str, new: Path, licence: str) -> Handover:
    folder, record = store.artefact(Label(label)), store.done(Label(label))
    if not (folder / "weights.safetensors").is_file():
        raise UserError(
            f"{label}: its weights are a pickle, which is not exported: pass on its zip file"
        )
    (new / "figures").mkdir(parents=True)
    for name in (*MODEL_FILES, *OTHER_FILES):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, new / name)
    known, made = _known(store, folder, record), readers_of(store, label, ("analysis",))
    others = readers_of(
        store, label, ("dt", "dataset", "agent", "pairs", "activations", "dictionary")
    )
    _add_environment(known, [store.root / other for other, _, _ in others])
    what = Handover(
        kind=kind,
        label=label,
        licence=licence,
        known=known,
        description=_description(folder),
        headline=read_metrics(folder),
        readings=[_reading(store, other, role, new) for other, role, _ in made],
        uses=[other for other, _, _ in others],
    )
    write_atomically(new / LINEAGE, json.dumps(known, indent=1) + "\n")
    write_atomically(new / "README.md", card(what))
    return what


def _description(folder: Path) -> dict[str, Any]:
    path = folder / "model.json"  # a published agent has none
    return read_json(path) if path.is_file() else {}


def _known(store: Store, folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    records = lineage(store, record)
    folders = {"": folder, **{label: store.root / label for label in records}}
    slim = {label: _slim(folders[label], r) for label, r in {"": record, **records}.items()}
    return {**slim.pop(""), "records": slim}


def _add_environment(known: dict[str, Any], made: list[Path]) -> None:
    """Add the id of an agent's environment: its own record holds the settings alone, its episodes the id."""
    from dtx.exchange.environments import recorded_id

    ids = {id for folder in made if (id := recorded_id(folder)) is not None}
    if "env" in known["config"] and len(ids) == 1:
        known.setdefault("env_id", *ids)


def _slim(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """A record without host, paths and uncommitted code."""
    from dtx.exchange.environments import recorded_id

    kept = {name: record[name] for name in _KEPT if name in record}
    config = {k: v for k, v in kept.get("config", {}).items() if k != "file"}
    git = record.get("git") or {}
    changed = bool(git.get("diff") or git.get("untracked"))
    shown = {
        **kept,
        "config": config,
        "git": {"sha": git.get("sha"), "uncommitted_changes": changed},
    }
    if (id := recorded_id(folder)) is not None:
        shown["env_id"] = id
    return shown


def _reading(store: Store, label: str, role: str, out: Path) -> Reading:
    artefact = Label(label)
    folder = store.artefact(artefact)
    if role not in ("dt", "agent"):  # the model is a control: the numbers are another model's
        return Reading(label, role, {}, None, [])
    record = store.done(artefact)
    figures = list(_copied(folder, record["files"], label, out))
    result = recorded_result(folder, record)
    return Reading(label, role, read_metrics(folder), result, figures)


def _copied(folder: Path, files: Iterable[str], label: str, out: Path) -> Iterator[str]:
    """Copy the figures that the record lists: their checksums have been compared."""
    for path in sorted(folder / name for name in files):
        if path.parent == folder / "figures" and path.suffix == ".png":
            name = f"{label}_{path.name}"
            shutil.copyfile(path, out / "figures" / name)
            yield name
