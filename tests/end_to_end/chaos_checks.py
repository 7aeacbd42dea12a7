"""What an interrupted pipeline is held to: equal files, nothing left over, all of it in MLflow."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from dtx.report import read_metrics

UNEQUAL = {"timing.jsonl", "done.json"}
"""Files that hold speeds and dates; all others must be equal to the bit."""


def artefacts(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of every artefact as it lies on the disk, without speeds and dates."""
    return {
        str(path.relative_to(folder / "store")): hashlib.sha256(path.read_bytes()).hexdigest()
        for done in sorted((folder / "store").glob("*/done.json"))
        for path in sorted(done.parent.rglob("*"))
        if path.is_file() and path.name not in UNEQUAL
    }


def differences(reference: dict[str, str], found: dict[str, str]) -> list[str]:
    """What is missing, too many, or not equal."""
    return [
        f"{name}: {'missing' if name not in found else 'too many' if name not in reference else 'differs'}"
        for name in sorted(reference.keys() | found.keys())
        if reference.get(name) != found.get(name)
    ]


def leftovers(folder: Path) -> list[str]:
    """Unfinished work, half-written files, and files that ``done.json`` does not list."""
    store = folder / "store"
    found = [f"left in .work: {p.name}" for p in store.glob(".work/*")]
    # A kill while the run's id is added to a committed done.json leaves the old file and this, unread.
    half = (p for p in folder.rglob("*.partial") if p.name != "done.json.partial")
    found += [f"half a file: {p.relative_to(folder)}" for p in half]
    for done in store.glob("*/done.json"):
        listed = set(json.loads(done.read_text())["files"])
        files = (p for p in done.parent.rglob("*") if p.is_file())
        there = {str(p.relative_to(done.parent)) for p in files if p.suffix != ".partial"}
        found += [
            f"not as listed in {done.parent.name}: {n}" for n in listed ^ (there - {"done.json"})
        ]
    return found


def untracked(folder: Path, *, complete: bool) -> list[str]:
    """What is wrong with the MLflow runs: one left RUNNING, or a committed stage without its numbers.

    Args:
        complete: The pipeline came to its end, so every stage must be shown; else only look for RUNNING.
    """
    from mlflow import MlflowClient

    if not (folder / "mlflow.db").exists():
        return ["no database"] if complete else []
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri, registry_uri=uri)
    experiment = client.get_experiment_by_name("dtx")
    runs = client.search_runs([experiment.experiment_id], max_results=1000) if experiment else []
    found = [
        f"still {r.info.status}: {r.info.run_name}" for r in runs if r.info.status == "RUNNING"
    ]
    if not complete:
        return found
    for done in (folder / "store").glob("*/done.json"):
        record = json.loads(done.read_text())
        mine = [r for r in runs if r.data.tags.get("dtx.key") == record["key"]]
        finished = [r for r in mine if r.info.status == "FINISHED"]
        if not finished:
            found.append(
                f"{done.parent.name}: committed, but its runs are {[r.info.status for r in mine]}"
            )
            continue
        wanted = {k for k, v in read_metrics(done.parent).items() if v is not None}
        if not any(wanted <= set(r.data.metrics) for r in finished):
            found.append(f"{done.parent.name}: its finished run lacks metrics")
    return found
