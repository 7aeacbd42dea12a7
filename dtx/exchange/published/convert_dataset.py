"""Convert the arrays of a published trajectory file to our dataset.

Axes: t step of the collection · n environment played side by side · s step of an episode.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dtx.dataset.episodes import Episodes, EpisodeWriter, Outcome
from dtx.env.encoding import CHANNELS, OFFSETS, VIEW, channels
from dtx.errors import UserError
from dtx.exchange.published.trajectories import unpickled

UNKNOWN_TEMPERATURE = 1.0
"""Of all episodes: the files do not say at which temperature each was sampled."""


def write(
    file: Path, out: Path, n_actions: int, validation: float, seed: int, label: str
) -> dict[str, int]:
    """Convert; gives the headline numbers.

    Args:
        file: The trajectories.
        out: Folder of the artefact. n_actions: Of the environment that is configured.
        validation, seed: Of the held-out share. label: Of the dataset, for its metadata.

    Raises:
        UserError: Something in the file cannot be mapped.
    """
    arrays = unpickled(file)
    observations = indices(arrays["observations"], file.name)
    grid = observations.shape[:2]
    actions, rewards, done, cut = (
        _column(arrays[name], name, grid, file.name)
        for name in ("actions", "rewards", "dones", "truncated")
    )
    if not ((actions >= 0) & (actions < n_actions) & (actions == np.round(actions))).all():
        raise UserError(
            f"{file.name}: data.actions holds something else than 0 to {n_actions - 1}, the actions of the "
            f"environment; the file names {str(arrays['env'])[:60] or 'none'} (env=...)"
        )
    if not np.isfinite(rewards).all():
        raise UserError(f"{file.name}: data.rewards holds numbers that are not finite")
    done, cut = done.astype(bool), cut.astype(bool)
    if not (done | cut).any():
        raise UserError(f"{file.name}: holds no episode that ended")
    writer = EpisodeWriter(out)
    ids = writer.identify(observations.reshape(-1, VIEW, VIEW, 3)).reshape(grid)
    unfinished = 0
    for n in range(grid[1]):
        ends = np.flatnonzero(done[:, n] | cut[:, n])
        begins = np.concatenate([[0], ends + 1])
        unfinished += begins[-1] < grid[0]  # the collection stopped within an episode
        for begin, end in zip(begins[:-1], ends, strict=True):
            part = slice(begin, end + 1)
            steps = {
                "observation": ids[None, part, n],
                "action": actions[None, part, n],
                "reward": rewards[None, part, n],
            }
            failed = Outcome.WRONG if done[end, n] else Outcome.TRUNCATED
            outcome = Outcome.SUCCESS if done[end, n] and rewards[end, n] > 0 else failed
            writer.append(
                steps, np.array([end + 1 - begin]), np.array([outcome]), UNKNOWN_TEMPERATURE
            )
    writer.finish(
        validation, seed, {"env": str(arrays["env"]), "file": file.name, "dataset": label}
    )
    episodes = Episodes.read(out)
    counts = np.bincount(episodes.outcome, minlength=3)
    return {
        "data/n_episodes": len(episodes.start),
        "data/n_steps": len(episodes.action),
        "data/n_unique_obs": len(episodes.observations),
        "data/n_unfinished": int(unfinished),
        **{f"data/n_{o.name.lower()}": int(counts[o]) for o in Outcome},
    }


def indices(observations: np.ndarray, file: str) -> np.ndarray:
    """Observations (t, n, 7, 7, 3) uint8 of indices or one-hots (..., 20) of any number type.

    Raises:
        UserError: They are not MiniGrid's 7x7 view.
    """
    shape = list(observations.shape)
    if observations.ndim != 5 or shape[2:4] != [VIEW, VIEW] or shape[4] not in (3, CHANNELS):
        raise UserError(
            f"{file}: data.observations has shape {shape}; (steps, environments, 7, 7, 3 or 20) belongs there"
        )
    if shape[4] == CHANNELS:
        kinds = [slice(a, b) for a, b in zip(OFFSETS, (*OFFSETS[1:], CHANNELS), strict=True)]
        one = all((observations[..., kind].sum(-1) == 1).all() for kind in kinds)
        if not (one and np.isin(observations, (0, 1)).all()):
            raise UserError(f"{file}: data.observations has 20 channels that are no one-hots")
        return np.stack([observations[..., kind].argmax(-1) for kind in kinds], -1).astype(np.uint8)
    small = observations.astype(np.uint8)
    try:
        if (small != observations).any():
            raise ValueError("an observation holds a number that is no index")
        channels(small)
    except ValueError as error:
        raise UserError(f"{file}: data.observations: {error}") from None
    return small


def _column(values: np.ndarray, name: str, grid: tuple[int, ...], file: str) -> np.ndarray:
    """(t, n) numbers."""
    if values.shape != grid:
        raise UserError(
            f"{file}: data.{name} has shape {list(values.shape)}, but {list(grid)} belongs there"
        )
    return values
