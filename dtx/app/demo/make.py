"""Write the model that ships: an export, what the explorer needs beside it, and what it does on its card."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from dtx.app.demo import COMMANDS, DEMONSTRATIONS, EXPERIMENT, FOLDER, environment, model
from dtx.app.demo.criteria import EARLIER, FIXED
from dtx.app.demo.measure import EPISODES, SEED, interval, measured, verdicts
from dtx.app.training_data import TrainingData
from dtx.dataset.episodes import OUTCOMES, Outcome
from dtx.exchange.export import export
from dtx.exchange.loading import load
from dtx.exchange.model_handle import LoadedModel
from dtx.files import read_tensors
from dtx.report import write_atomically
from dtx.store.store import Store

MEASURED = "measured.json"
EARLIEST = 0.1
"""Of the kept checkpoints, the untrained one and those from this share of the training on ship."""


def make(
    store: Store, folder: Path = FOLDER, *overrides: str, episodes: int = EPISODES
) -> list[dict[str, Any]]:
    """Export the model of ``experiment=demo``, measure what was exported, and complete its card.

    Args:
        store: With the experiment's artefacts.
        folder: What is written; an earlier one is replaced.
        overrides: With which the experiment was run.
        episodes: To be sampled at each target.

    Returns:
        What was measured; see :func:`dtx.app.demo.measure.measured`.

    Raises:
        UserError: The experiment has not been run in this store; the message has the command.
    """
    trained = load("dt", EXPERIMENT, *overrides, store=store)
    assert isinstance(trained, LoadedModel)
    load("analysis", EXPERIMENT, *overrides, store=store)  # its findings stand on an export's card
    export(store, trained.label, "dt", folder, "mit", replace=True)
    kept = _add_checkpoints(trained, folder)
    _add_demonstrations(trained, folder)
    rows = measured(model(folder), environment(), episodes=episodes)
    write_atomically(folder / MEASURED, json.dumps(rows, indent=1) + "\n")
    card = folder / "README.md"
    write_atomically(card, card.read_text() + "\n".join(section(rows, kept)) + "\n")
    return rows


def _add_checkpoints(trained: LoadedModel, folder: Path) -> list[int]:
    """Write some of the kept checkpoints, rounded to float16; their steps."""
    steps = trained.config["steps"]
    chosen = [s for s in trained.checkpoints() if s == 0 or EARLIEST * steps <= s < steps]
    place = folder / "checkpoints"
    place.mkdir(exist_ok=True)
    for earlier in place.glob("step-*.safetensors"):
        earlier.unlink()
    for step in chosen:
        path = trained.checkpoints()[step]
        halves = {name: tensor.to(torch.float16) for name, tensor in read_tensors(path).items()}
        safetensors.torch.save_file(halves, place / path.name)
    return sorted(chosen)


def _add_demonstrations(trained: LoadedModel, folder: Path) -> None:
    """Write the extreme returns and the distinct observations of the training episodes."""
    data = TrainingData.of(trained.episodes)
    extremes = np.array([data.returns.lowest, data.returns.highest])
    np.savez_compressed(folder / DEMONSTRATIONS, returns=extremes, observations=data.observations)


def section(rows: list[dict[str, Any]], kept: list[int]) -> Iterator[str]:
    """The lines that the card of the model that ships has beside those of every export.

    Args:
        rows: Of :func:`dtx.app.demo.measure.measured`. kept: Steps of the checkpoints beside it.
    """
    yield "\n## The model that ships with dtx\n"
    yield "Made from nothing by these commands, in one folder:\n"
    yield "\n".join(["```sh", *COMMANDS, "```"])
    yield f"\nSeed {SEED}. The criteria were fixed on {FIXED}, before its first run:\n"
    yield "| criterion | measured | verdict |\n| --- | --- | --- |"
    for criterion, value, verdict in verdicts(rows):
        yield f"| {criterion} | {value} | {verdict.value} |"
    yield f"\n{EARLIER}"
    yield f"\nWhat it does at each target: greedy play in each of the {len(rows[0]['greedy'])} layouts, and"
    yield f"{rows[0]['return']['n']} sampled episodes (seed {SEED}) with 95% intervals.\n"
    yield "| asked for | greedy: success, wrong, out of time | return | success | wrong | out of time |"
    yield "| --- | --- | --- | --- | --- | --- |"
    yield from map(row_of, rows)
    yield (
        "\n`checkpoints/` holds the weights after "
        + ", ".join(map(str, kept))
        + " steps of training,"
    )
    yield "rounded to float16. `demonstrations.npz` holds the lowest and the highest return of the training"
    yield "episodes and their distinct observations."


def row_of(row: dict[str, Any]) -> str:
    """A target's line in the card's table."""
    greedy = list(row["greedy"].values())
    counts = ", ".join(str(greedy.count(OUTCOMES[outcome])) for outcome in Outcome)
    ends = f"{interval(row['return'])} | {interval(row['success'])}"
    return (
        f"| {row['target']:g} | {counts} | {ends} | {row['wrong']:.3f} | {row['truncated']:.3f} |"
    )
