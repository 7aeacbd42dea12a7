"""Pass all windows through a model and write each distinct prefix's activations, shard after shard.

What a kill interrupts goes on at the first shard that was not finished, with the same bytes. Windows of
equal length are passed together; nothing is padded but what the model itself pads.

Shape suffixes: b windows of a batch, n tokens of them, k rows taken from a batch, w width.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dtx.activations.names import layers_needed
from dtx.activations.prefixes import Rows, WindowList
from dtx.activations.spec import Numbers
from dtx.activations.stored import file_of
from dtx.dataset.episodes import Episodes
from dtx.dt.context import Context
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.model_config import ModelConfig
from dtx.dt.windows import observation_table
from dtx.errors import UserError
from dtx.files import read_json
from dtx.progress import progress
from dtx.report import write_atomically
from dtx.stage import CHECKPOINT

BATCH_TOKENS = 4_096
"""Tokens of a forward pass, about."""
LARGEST_HALF = float(np.finfo(np.float16).max)


def widths_of(
    model: DecisionTransformerModel, hooks: Sequence[str], context: Context
) -> dict[str, int]:
    """Length of the vectors at each hook, from a pass of one window.

    Raises:
        UserError: The model has no such hook, or what it computes there is not one vector a token.
    """
    model.computed(list(hooks))
    with torch.no_grad():
        _, cache = model.run_with_cache(context, names_filter=list(hooks))
    tokens, widths = context.shape[1], {}
    for name in hooks:
        shape = tuple(cache[name].shape)
        by_token = len(shape) > 2 and shape[1] == tokens and not name.endswith(_BETWEEN_TOKENS)
        if not by_token or name.startswith("embed."):
            raise UserError(
                f"activations.hooks: {name} is not one vector a token (its shape is {shape} for {tokens} "
                "tokens); choose a residual stream, a head's or an MLP's activation"
            )
        widths[name] = int(np.prod(shape[2:]))
    return widths


_BETWEEN_TOKENS = ("hook_pattern", "hook_attn_scores")


class Reader:
    """Makes windows of demonstrations into contexts of a model.

    Args:
        episodes: Demonstrations. cfg: Of the model.
    """

    def __init__(self, episodes: Episodes, cfg: ModelConfig):
        self.episodes, self.cfg = episodes, cfg
        self.reward_to_go = episodes.reward_to_go

    def context(self, windows: WindowList) -> Context:
        """Windows of equal length and padding, or with left padding any, as one batch."""
        episodes, cfg = self.episodes, self.cfg
        steps = int((windows.length + windows.padding)[0])
        within_bt = np.arange(steps)[None] - windows.padding[:, None]
        real_bt = within_bt >= 0
        row_bt = windows.row[:, None] + np.maximum(within_bt, 0)
        used, index = np.unique(episodes.observation[row_bt], return_inverse=True)
        action_bt = np.where(real_bt, episodes.action[row_bt], cfg.n_actions)
        timestep_bt = np.where(real_bt, windows.begin[:, None] + within_bt, 0)
        tensor = torch.from_numpy
        return Context.of(
            layout=cfg.layout,
            observation=tensor(np.where(real_bt, index.reshape(real_bt.shape), len(used))),
            table=observation_table(episodes.observations[used]),
            action=tensor(action_bt.astype(np.int64)),
            reward_to_go=tensor(self.reward_to_go[row_bt]),
            timestep=tensor(timestep_bt),
        )


def cache(
    model: DecisionTransformerModel,
    reader: Reader,
    rows: Rows,
    widths: Mapping[str, int],
    numbers: Numbers,
    out: Path,
) -> None:
    """Write the file of every hook; go on where an earlier run of the same rows ended.

    Raises:
        UserError: An activation is not finite, or too large for the number type.
        OSError: The disk is full; the shard is named.
    """
    bounds, plan = rows.shards, _digest(rows, widths, numbers)
    done = _finished(out / CHECKPOINT, plan)
    sizes = {file_of(out, hook, numbers): w * numbers.dtype.itemsize for hook, w in widths.items()}
    if any(not p.is_file() or p.stat().st_size < bounds[done] * s for p, s in sizes.items()):
        done = 0  # somebody has removed what was there
    for path, size in sizes.items():
        with path.open("ab") as file:
            file.truncate(int(bounds[done]) * size)
    with progress("activations", len(rows), "rows") as bar:
        bar.move_to(int(bounds[done]))
        for shard in range(done, len(bounds) - 1):
            begin, end = int(bounds[shard]), int(bounds[shard + 1])
            values = _shard(model, reader, rows, begin, end, widths, numbers)
            try:
                for hook, array in values.items():
                    _append(file_of(out, hook, numbers), array)
                write_atomically(out / CHECKPOINT, json.dumps({"plan": plan, "shards": shard + 1}))
            except OSError as error:
                where = f"{error.filename or out} (shard {shard + 1} of {len(bounds) - 1})"
                raise OSError(error.errno or errno.EIO, error.strerror, where) from error
            bar.move_to(end)


def _digest(rows: Rows, widths: Mapping[str, int], numbers: Numbers) -> str:
    """What must be equal for a run to go on where another ended."""
    found = hashlib.sha256(json.dumps([dict(widths), numbers.value]).encode())
    for array in (rows.prefix, rows.window, rows.place, rows.shards, rows.windows.row):
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _finished(path: Path, plan: str) -> int:
    """Shards that an earlier run of the same plan finished."""
    try:
        known = read_json(path)
        return int(known["shards"]) if known["plan"] == plan else 0
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
    ):  # none, or of a session that a power cut ended
        return 0


def _append(path: Path, array: np.ndarray) -> None:
    """Add to a file, and have the disk know it."""
    try:
        with path.open("ab", buffering=0) as file:
            left = memoryview(array).cast("B")
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _shard(
    model: DecisionTransformerModel,
    reader: Reader,
    rows: Rows,
    begin: int,
    end: int,
    widths: Mapping[str, int],
    numbers: Numbers,
) -> dict[str, np.ndarray]:
    """(rows of the shard, w) by hook."""
    values = {hook: np.empty((end - begin, w), numbers.dtype) for hook, w in widths.items()}
    first = int(rows.window[begin:end].min())
    window = rows.window[begin:end] - first
    windows = rows.windows[np.arange(first, first + int(window.max()) + 1)]
    layout = model.cfg.layout
    by_window = np.argsort(window, kind="stable")
    starts = np.searchsorted(window[by_window], np.arange(len(windows) + 1))
    for batch in batches(windows, layout.per_step):
        size = starts[batch + 1] - starts[batch]
        which_k = np.repeat(np.arange(len(batch)), size)
        within_k = np.arange(len(which_k)) - np.repeat(np.cumsum(size) - size, size)
        row_k = by_window[starts[batch][which_k] + within_k]
        some = windows[batch]
        place_k = rows.place[begin + row_k] + some.padding[which_k] * layout.per_step
        found = forward(model, reader.context(some), tuple(widths))
        for hook, value_bnw in found.items():
            taken_kw = value_bnw[torch.from_numpy(which_k), torch.from_numpy(place_k)].numpy()
            _refuse(taken_kw, hook, numbers, rows, begin + row_k, some, which_k, layout.per_step)
            values[hook][row_k] = taken_kw
    return values


def batches(windows: WindowList, per_step: int) -> Iterator[np.ndarray]:
    """Numbers of windows to pass together: equally long ones."""
    steps = windows.length + windows.padding
    order = np.argsort(steps, kind="stable")
    for same in np.split(order, np.flatnonzero(np.diff(steps[order])) + 1):
        count = max(1, BATCH_TOKENS // int(steps[same[0]] * per_step))
        for first in range(0, len(same), count):
            yield same[first : first + count]


def forward(
    model: DecisionTransformerModel, context: Context, hooks: tuple[str, ...]
) -> dict[str, Tensor]:
    """(b, n, w) by hook, heads side by side; blocks behind the last hook are not run."""
    kept: dict[str, Tensor] = {}

    def keep(value: Tensor, hook: torch.nn.Module) -> None:
        kept[str(hook.name)] = value.flatten(2)

    with torch.inference_mode(), model.hooks(fwd_hooks=[(name, keep) for name in hooks]):
        layers = layers_needed(hooks)
        if layers is None:
            model(context)
        else:
            model.residual(context, layers)
    return {name: kept[name] for name in hooks}


def _refuse(
    taken_kw: np.ndarray,
    hook: str,
    numbers: Numbers,
    rows: Rows,
    row_k: np.ndarray,
    windows: WindowList,
    which_k: np.ndarray,
    per_step: int,
) -> None:
    """Raise a UserError for a number that is none, or that the number type does not hold."""
    largest_k = np.abs(taken_kw).max(1)  # of a NaN: NaN
    most = LARGEST_HALF if numbers is Numbers.float16 else np.finfo(np.float32).max
    wrong = ~(largest_k <= most)
    if not wrong.any():
        return
    k = int(np.flatnonzero(wrong)[0])
    w = which_k[k]
    step = int(windows.begin[w] + rows.place[row_k[k]] // per_step)
    where = f"row {row_k[k]} (episode {windows.episode[w]}, step {step})"
    if np.isfinite(largest_k[k]):
        raise UserError(
            f"activations: {hook}, {where}: {largest_k[k]:.3g} is more than float16 holds; "
            "use activations.numbers=float32"
        )
    raise UserError(
        f"activations: {hook}, {where}: holds a number that is not finite; the model's weights or the "
        "demonstrations' rewards are too large"
    )
