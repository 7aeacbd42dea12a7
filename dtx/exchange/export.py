"""A trained model as a folder for others: weights, description, model card, lineage, figures.

``dtx.load("dt", path=FOLDER)`` reads it back; nothing in it tells of the machine that it was made on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtx.analysis.core.claims import CLAIMS, Claim, read_claims
from dtx.errors import UserError
from dtx.exchange.loading import LINEAGE, Label, labels_with, lineage
from dtx.report import HEADLINE, read_metrics, write_atomically

if TYPE_CHECKING:
    from dtx.store.store import Store

MODEL_FILES = ("weights.safetensors", "model.json", HEADLINE)
OTHER_FILES = ("circuit.json", "published.json")
"""What a planted or an imported model has beside."""
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


@dataclass(frozen=True)
class Reading:
    """What one analysis found about the model.

    Attributes:
        label: Of the analysis. role: The field in which it reads the model; a control is another than ``dt``.
        headline: Its numbers. claims: Its claims with their verdicts.
        figures: Names of its PNG files in the handed-over folder.
    """

    label: str
    role: str
    headline: Mapping[str, float | None]
    claims: list[Claim]
    figures: list[str]


@dataclass(frozen=True)
class Handover:
    """All that a card tells.

    Attributes:
        kind: dt or agent. label: Stage and key. licence: As the user named it.
        known: What :data:`lineage.json` holds: the record, and those of what it was made from.
        description: ``model.json``. headline: The model's own numbers.
        readings: One an analysis. uses: Labels of other artefacts made from the model.
    """

    kind: str
    label: str
    licence: str
    known: Mapping[str, Any]
    description: Mapping[str, Any]
    headline: Mapping[str, float | None]
    readings: list[Reading]
    uses: list[str]


def export(store: Store, label: str, kind: str, out: Path, licence: str) -> Handover:
    """Write the folder.

    Args:
        store: That has the artefact. label: Of a dt or an agent. kind: Which.
        out: The folder; made if need be. Only an empty one, or one written here before, is written to.
        licence: An identifier for the card (``mit``, ``cc-by-4.0``).

    Raises:
        UserError: The folder holds something else, or cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: give a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / LINEAGE).is_file():
        raise UserError(f"{out} holds something else than an exported model: give another folder")
    try:
        return _export(store, label, kind, out, licence)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from None


def _export(store: Store, label: str, kind: str, out: Path, licence: str) -> Handover:
    from dtx.exchange.model_card import card

    shutil.rmtree(out / "figures", ignore_errors=True)  # of an earlier export
    named: Any = Label(label)
    folder, record = store.artefact(named), store.done(named)
    if not (folder / "weights.safetensors").is_file():
        raise UserError(
            f"{label}: its weights are in a pickle, which is not handed on: pass on its zip file"
        )
    shutil.rmtree(out / "figures", ignore_errors=True)  # of an earlier export
    (out / "figures").mkdir(parents=True, exist_ok=True)
    for name in (*MODEL_FILES, *OTHER_FILES):
        (out / name).unlink(missing_ok=True)
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)
    known, made = _known(store, folder, record), labels_with(store, label, ("analysis",))
    others = labels_with(store, label, ("dt", "dataset", "agent", "pairs"))
    _tell_environment(known, [store.root / other for other, _, _ in others])
    what = Handover(
        kind=kind,
        label=label,
        licence=licence,
        known=known,
        description=_description(folder),
        headline=read_metrics(folder),
        readings=[_reading(store, other, role, out) for other, role, _ in made],
        uses=[other for other, _, _ in others],
    )
    write_atomically(out / LINEAGE, json.dumps(known, indent=1) + "\n")
    write_atomically(out / "README.md", card(what))
    return what


def _description(folder: Path) -> dict[str, Any]:
    path = folder / "model.json"  # a published agent has none
    return json.loads(path.read_text()) if path.is_file() else {}


def _known(store: Store, folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    records = lineage(store, record)
    folders = {"": folder, **{label: store.root / label for label in records}}
    slim = {label: _slim(folders[label], r) for label, r in {"": record, **records}.items()}
    return {**slim.pop(""), "records": slim}


def _tell_environment(known: dict[str, Any], made: list[Path]) -> None:
    """Add the id of an agent's environment: its own record holds the settings alone, its episodes the id."""
    from dtx.exchange.environments import recorded_id

    ids = {id for folder in made if (id := recorded_id(folder)) is not None}
    if "env" in known["config"] and len(ids) == 1:
        known.setdefault("env_id", *ids)


def _slim(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """What of a record is of use to others: no host, no path, no uncommitted code."""
    from dtx.exchange.environments import recorded_id

    kept = {name: record[name] for name in _KEPT if name in record}
    config = {k: v for k, v in kept.get("config", {}).items() if k != "file"}
    git = record.get("git") or {}
    changed = bool(git.get("diff") or git.get("untracked"))
    found = {
        **kept,
        "config": config,
        "git": {"sha": git.get("sha"), "uncommitted_changes": changed},
    }
    if (id := recorded_id(folder)) is not None:
        found["env_id"] = id
    return found


def _reading(store: Store, label: str, role: str, out: Path) -> Reading:
    folder = store.artefact(Label(label))  # type: ignore[arg-type]
    subject = role in ("dt", "agent")
    figures = list(_copied(folder, label, out)) if subject else []
    claims = read_claims(folder) if subject and (folder / CLAIMS).is_file() else []
    return Reading(label, role, read_metrics(folder) if subject else {}, claims, figures)


def _copied(folder: Path, label: str, out: Path) -> Iterator[str]:
    for path in sorted((folder / "figures").glob("*.png")):
        name = f"{label}_{path.name}"
        shutil.copyfile(path, out / "figures" / name)
        yield name
