"""Find artefacts in a store by label, key, kind of product, and what they were made from."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from dtx.errors import UserError
from dtx.files import read_json
from dtx.report import RESULT
from dtx.store.inventory import artefacts, existing
from dtx.store.label import Label
from dtx.store.store import Store

DICTIONARY_FILES = ("sae_weights.safetensors", "crosscoder.safetensors")
"""One of them stands in each folder of a stage that made dictionaries."""
_SHORTEST = 4  # characters of a key
_SHOWN = 8  # labels in a message


class AmbiguousLabel(UserError):
    """Several artefacts have a label or key that begins as asked for."""


def kind_of(folder: Path) -> str:
    """The config group of the stage that made an artefact, by the artefact's files."""
    if (folder / "weights.safetensors").is_file() and (folder / "model.json").is_file():
        try:
            described = read_json(folder / "model.json")
        except (OSError, ValueError):
            described = {}
        return "dt" if isinstance(described, dict) and "n_ctx" in described else "agent"
    published = [folder / name for name in ("weights.safetensors", "published.json")]
    if all(path.is_file() for path in published) or (folder / "model.zip").is_file():
        return "agent"  # published, or of Stable-Baselines3 with a policy that has to be unpickled
    if (folder / "steps.arrow").is_file():
        return "dataset"
    if (folder / "tokens.arrow").is_file():
        return "activations"
    if (folder / RESULT).is_file():
        return "analysis"
    if any(next(folder.glob(f"*/{name}"), None) for name in DICTIONARY_FILES):
        return "dictionary"
    return "pairs" if (folder / "runs.npz").is_file() else "analysis"


def matching(store: Store, which: str, group: str | None = None) -> list[str]:
    """Labels in the store that begin with ``which``, or whose key does, newest first."""
    labels = [a.label for a in artefacts(existing(store.root))]
    if which in labels:
        labels = [which]
    candidates = [
        label
        for label in labels
        if label.startswith(which)
        or (len(which) >= _SHORTEST and label.rpartition("-")[2].startswith(which))
    ]
    return [label for label in candidates if group in (None, kind_of(store.root / label))]


def one_of(store: Store, which: str, group: str | None = None) -> str:
    """The label that ``which`` means: a label, its beginning, or the beginning of a key.

    Raises:
        AmbiguousLabel: Several begin so.
        UserError: None begins so.
    """
    labels = matching(store, which, group)
    if len(labels) == 1:
        return labels[0]
    if labels:
        more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
        raise AmbiguousLabel(
            f"{which!r} may mean {', '.join(labels[:_SHOWN])}{more}: give more of the label"
        )
    kind = group or "artefact"
    there = ", ".join(of_group(store, group)) or "none"
    raise UserError(
        f"{which!r}: no {kind} of the store {store.root} begins so, nor a key; there are: {there}"
    )


def label_or_hint(store: Store, which: str, group: str) -> str:
    """As :func:`one_of`; the error names the configs of the group as well."""
    from dtx.config.options import options

    try:
        return one_of(store, which, group)
    except AmbiguousLabel:
        raise
    except UserError as error:
        names = [option.name for option in options().get(group, [])]
        raise UserError(f"{error}; or a config: {', '.join(names)}") from None


def of_group(store: Store, group: str | None) -> list[str]:
    """Labels of all artefacts of a group, sorted; empty if there is no store."""
    if not store.root.is_dir():
        return []
    labels = [a.label for a in artefacts(store.root)]
    return sorted(label for label in labels if group in (None, kind_of(store.root / label)))


def lineage(store: Store, record: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Records of all that an artefact was made from, by label, as far as they are in the store."""
    records: dict[str, Mapping[str, Any]] = {}
    todo = list(record.get("inputs", {}).values())
    while todo:
        label = todo.pop(0)
        if label in records or not (store.root / label).is_dir():
            continue
        records[label] = store.done(Label(label))
        todo += records[label].get("inputs", {}).values()
    return records


def readers_of(
    store: Store, label: str, groups: Sequence[str]
) -> list[tuple[str, str, Mapping[str, Any]]]:
    """The artefacts of some groups that read an artefact, oldest first.

    Returns:
        The label of each, the field in which it reads the artefact, and its record.
    """
    return [(reader, field, record) for reader, field, _, record in readers(store, {label}, groups)]


def readers(
    store: Store, labels: Collection[str], groups: Sequence[str]
) -> list[tuple[str, str, str, Mapping[str, Any]]]:
    """The artefacts of some groups that read one of some artefacts, oldest first.

    Returns:
        The label of each, the field, the label that it reads there, and its record.
    """
    found = []
    for artefact in reversed(artefacts(store.root)):
        read = [
            (f, source)
            for f, source in artefact.record.get("inputs", {}).items()
            if source in labels
        ]
        if read and kind_of(artefact.folder) in groups:
            found += [(artefact.label, field, source, artefact.record) for field, source in read]
    return found
