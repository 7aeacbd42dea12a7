"""What the file carries, as a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dtx.analysis.core.result import About, Check, Result
from dtx.analysis.explorer.spec import ExplorerSpec
from dtx.app.asked import Explorer
from dtx.app.file.contents import TOLERANCE, Contents, Wanted, contents
from dtx.app.models import KINDS, Catalogue, Entry, of_folder, renamed
from dtx.app.places import Declared, Place, of_environment
from dtx.app.scene import Scene
from dtx.app.training_data import TrainingData
from dtx.dataset.episodes import Episodes
from dtx.env.environment import Environment
from dtx.errors import UserError
from dtx.pairs.edits import STATE_OPS

WALKS = 3
"""Random walks in each world that are compared with minigrid."""
KEY = 8
"""Characters of a key that name a model."""


def compute(
    spec: ExplorerSpec,
    env: Environment,
    models: Sequence[tuple[str, Path]],
    checkpoint: int | None,
    episodes: Episodes | None,
) -> Result:
    """Gather all that the page needs.

    Args:
        spec: What is asked for.
        env: Where the models act.
        models: Label and folder of each; the first one acts.
        checkpoint: Step of the first one that is shown; None: as it is at last.
        episodes: Whose returns and observations are those of training; None: not known.

    Returns:
        Array ``contents``: bytes, from which the file is written. Table ``worlds``: one row a world and edit.

    Raises:
        UserError: A model or a world cannot be carried.
    """
    place = _place(spec, env)
    data = None if episodes is None else TrainingData.of(episodes)
    entries = [_entry(label, folder, place, data) for label, folder in models]
    first, *others = [entry.id for entry in entries]
    shown = first if checkpoint is None else f"{first}@{checkpoint}"
    steps = [f"{first}@{step}" for step in spec.checkpoints]
    start = spec.worlds[0] if spec.worlds else ""
    scene = Scene(models=(shown, *others), world=start)
    scenes = [scene.replace(world=world) for world in spec.worlds[1:]]
    edits = [[dict(step) for step in steps] for steps in spec.edits.values()]
    wanted = Wanted(
        scene,
        models=[first, *others, *steps],
        worlds=spec.worlds,
        edits=edits,
        precision=spec.precision.value,
        frozen=spec.frozen,
        scenes=scenes,
    )
    carried = contents(Explorer(Catalogue(None, None, entries)), wanted)
    return _result(spec, carried)


def _result(spec: ExplorerSpec, carried: Contents) -> Result:
    worlds, frame = carried.worlds, carried.frame
    rng = np.random.default_rng(spec.seed)
    megabytes = len(frame) / 1e6
    models = len(carried.values["models"])
    rows = [
        {
            "world": name,
            "edit": "" if edit is None else _named(spec, edit["operations"]),
            "states": 0 if table is None else worlds.tables[table].states,
            "impossible": "" if edit is None else edit["impossible"] or "",
        }
        for name, known in worlds.worlds.items()
        for edit, table in [(None, known["table"]), *((e, e["table"]) for e in known["edits"])]
    ]
    there = f"{_count(models, 'model')} in {_count(len(worlds.worlds), 'world')}"
    return Result(
        finding=f"{there}, which with their edits are tables of {carried.states} states; PyTorch's logits of "
        f"{carried.windows} windows, which the page computes again when it is opened; {megabytes:.1f} MB",
        metrics={
            "models": models,
            "worlds": len(worlds.worlds),
            "states": carried.states,
            "windows": carried.windows,
            "precision_change": carried.changed,
            "megabytes": megabytes,
        },
        checks=[
            Check(
                name="steps of random walks through the tables that differ from minigrid's",
                error=float(worlds.differing(rng, WALKS)),
                tolerance=0,
            ),
            Check(
                name="change of a logit through the precision of the weights",
                error=carried.changed,
                tolerance=TOLERANCE[spec.precision.value],
            ),
        ],
        tables={"worlds": pd.DataFrame(rows)},
        arrays={"contents": np.frombuffer(frame, np.uint8)},
        distinct_inputs=carried.windows,
        about=About.INSTRUMENT,
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + "s" * (number != 1)


def _named(spec: ExplorerSpec, operations: Sequence[Mapping[str, Any]]) -> str:
    """The names of the edits that change a world so."""
    return ", ".join(
        name
        for name, steps in spec.edits.items()
        if [dict(step) for step in steps if step["op"] in STATE_OPS] == list(operations)
    )


def _place(spec: ExplorerSpec, env: Environment) -> Place:
    """The environment with the edits and the contrast of the settings."""
    edits = {name: [dict(step) for step in steps] for name, steps in spec.edits.items()}
    declared = Declared(edits, (spec.contrast.pos, spec.contrast.neg), spec.min_ld_gap)
    try:
        id = of_environment(env).id
    except UserError:  # it has a config of the user's own
        id = type(env).__name__.lower()
    return Place(id, env, declared)


def _entry(label: str, folder: Path, place: Place, data: TrainingData | None) -> Entry:
    key = label.rpartition("-")[2]
    entry = of_folder(folder, key[:KEY], "", place, None if data is None else lambda: data)
    words = KINDS[entry.kind]
    return renamed(entry, label=label, title=f"{words} {key[:4]}")
