"""Reading the three Arrow files of demonstrations: types, ranges and sums are checked, not only the format.

A file may come from elsewhere: a handed folder, a remote store, another program.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from dtx.env.encoding import COLOURS, OBJECTS, STATES
from dtx.errors import UserError
from dtx.files import size_of

OBSERVATION_SHAPE = (7, 7, 3)
TYPES = {
    "observations": {"observation": np.uint8},
    "steps": {"observation": np.int32, "action": np.uint8, "reward": np.float32},
    "episodes": {
        "start": np.int64,
        "length": np.int32,
        "return": np.float32,
        "outcome": np.uint8,
        "temperature": np.float32,
        "split": np.uint8,
    },
}
"""Columns of each file."""
POSES = {
    "world": np.int32,
    "x": np.uint8,
    "y": np.uint8,
    "direction": np.uint8,
    "carrying": np.uint8,
    "carrying_colour": np.uint8,
}
"""Columns of ``poses.arrow``, which is there where facts were recorded: see :mod:`dtx.dataset.facts`."""
MOST_ACTIONS = 254
"""An action takes a byte, and the number of actions stands for padding."""


def read_columns(folder: Path) -> dict[str, np.ndarray]:
    """All columns by name, views of the mapped files; ``observations`` is (u, 7, 7, 3).

    Raises:
        UserError: A file cannot be read, or holds what cannot be: which one, and what.
    """
    found = {name: mapped(folder / f"{name}.arrow", types) for name, types in TYPES.items()}
    table = found["observations"].pop("observation")
    columns = {**found["steps"], **found["episodes"]}
    if _holds(folder / "episodes.arrow", "target"):
        columns |= mapped(folder / "episodes.arrow", {"target": np.float32})
    columns["observations"] = table.reshape(-1, *OBSERVATION_SHAPE)
    for name, what in _impossible(columns):
        raise UserError(
            f"{folder / name}.arrow: {what}; `dtx invalidate {folder.name}` sets it aside"
        )
    return columns


def _holds(path: Path, name: str) -> bool:
    with pa.memory_map(str(path)) as source:
        return name in pa.ipc.open_file(source).schema.names


def mapped(path: Path, types: Mapping[str, type]) -> dict[str, np.ndarray]:
    """Columns of one file, views of it.

    Raises:
        UserError: It cannot be read, or a column is missing or of another type.
    """
    try:
        size_of(path)
        batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        batch.validate(full=True)
        columns = {}
        for name, kind in types.items():
            column = batch.column(name)
            cells = column.flatten() if pa.types.is_fixed_size_list(column.type) else column
            columns[name] = cells.to_numpy(zero_copy_only=True)
            if columns[name].dtype != kind:
                raise ValueError(f"{name} is {columns[name].dtype}, not {np.dtype(kind)}")
    except (OSError, ValueError, KeyError, IndexError, pa.ArrowException) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path}: cannot be read ({what[:150]}); `dtx invalidate {path.parent.name}` sets it aside"
        ) from None
    return columns


def _impossible(columns: Mapping[str, np.ndarray]) -> Iterator[tuple[str, str]]:
    """(file, what is wrong): what no recording gives."""
    seen, step, reward = columns["observations"], columns["observation"], columns["reward"]
    limits = np.array([OBJECTS, COLOURS, STATES])
    if (seen.reshape(-1, 3) >= limits).any():
        yield "observations", "an index is beyond MiniGrid's objects, colours or states"
    if len(step) and not (step.min() >= 0 and step.max() < len(seen)):
        yield "steps", f"a step has an observation that is not one of the {len(seen)}"
    if (columns["action"] >= MOST_ACTIONS).any():
        yield "steps", f"an action is {columns['action'].max()}, more than {MOST_ACTIONS - 1}"
    if not np.isfinite(reward).all():
        yield "steps", "a reward is not a finite number"
    start, length = columns["start"], columns["length"].astype(np.int64)
    if (length < 1).any():
        yield "episodes", "an episode has no step"
    if (start != np.cumsum(length) - length).any() or length.sum() != len(step):
        yield "episodes", f"its episodes are not the {len(step)} steps one after the other"
    elif len(start) and not np.allclose(
        columns["return"], np.add.reduceat(reward, start), rtol=1e-4, atol=1e-5
    ):
        yield "episodes", "a return is not the sum of its episode's rewards"
    if (columns["outcome"] > 2).any() or (columns["split"] > 1).any():
        yield "episodes", "an outcome is none of 0, 1, 2, or a split none of 0, 1"
    if "target" in columns and not np.isfinite(columns["target"]).all():
        yield "episodes", "a target is not a finite number"
    temperature = columns["temperature"]
    if not (np.isfinite(temperature) & (temperature > 0)).all():
        yield "episodes", "a temperature is not a positive number"
