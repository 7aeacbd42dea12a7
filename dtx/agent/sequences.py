"""A rollout cut into pieces of episodes, so that one fused call runs them all.

Memory is reset where an episode begins. Rather than stepping through time and masking, a rollout of n
environments is cut there into pieces, which are sorted by length and packed time step by time step as
``torch.nn.utils.rnn.PackedSequence`` wants it: the more episodes end, the fewer sequential steps.

Axes: t time within the rollout · n environments · p frames of all pieces, packed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Pieces:
    """Pieces of some environments' rollout.

    Attributes:
        frame_p: (p,) int64, the packed frames' places in the rollout flattened from (t, n).
        batch_sizes: (longest piece,) int64, how many pieces are that long or longer.
        env: (pieces,) int64, each piece's environment, longest piece first.
        carries: (pieces,) bool, the piece goes on with the memory from before the rollout; the others
            begin an episode.
    """

    frame_p: np.ndarray
    batch_sizes: np.ndarray
    env: np.ndarray
    carries: np.ndarray


def cut(begins: np.ndarray, envs: np.ndarray) -> Pieces:
    """Cut the rollout of some environments at episode starts.

    Args:
        begins: (t, n) bool, an episode begins with this frame (its memory is the initial one).
        envs: (some,) int64, which environments.
    """
    steps, n = begins.shape
    cuts = begins[:, envs].T.copy()  # (some, t): a row's pieces lie side by side
    carried = ~cuts[:, 0]
    cuts[:, 0] = True
    start = np.flatnonzero(cuts)  # places in the flattened (some, t)
    length = np.diff(np.append(start, cuts.size))
    order = np.argsort(-length, kind="stable")
    start, length = start[order], length[order]
    longest = int(length[0])
    within = np.arange(longest)
    alive = within[:, None] < length[None, :]  # (longest, pieces)
    place = (start[None, :] + within[:, None])[alive]
    row, time = np.divmod(place, steps)
    piece_row, piece_time = np.divmod(start, steps)
    return Pieces(
        frame_p=time * n + envs[row],
        batch_sizes=alive.sum(axis=1),
        env=envs[piece_row],
        carries=(piece_time == 0) & carried[piece_row],
    )
