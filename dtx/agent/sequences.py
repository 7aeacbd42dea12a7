"""Cut a rollout into pieces of episodes, so that one fused call computes each distinct piece once.

Memory is reset where an episode begins. Rather than stepping through time and masking, a rollout of n
environments is cut there into pieces, which are sorted by length and packed time step by time step as
``torch.nn.utils.rnn.PackedSequence`` wants it: the more episodes end, the fewer sequential steps.
Memory is a function of the observations, so pieces that begin an episode and have equal observations
are equal; once a policy goes straight to its goal, nearly all are.

Axes: t time within the rollout · n environments · f frames · p frames of the distinct pieces, packed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Pieces:
    """The distinct pieces of some environments' rollout.

    Attributes:
        observation_p: (p,) int64, index of each packed frame's observation.
        batch_sizes: (longest piece,) int64, how many pieces are that long or longer.
        env: (pieces,) int64, each piece's environment, longest piece first.
        carries: (pieces,) bool, the piece starts with the memory from before the rollout; the others
            begin an episode.
        frame_f: (f,) int64, all frames of these environments, as places in the flattened (t, n).
        place_f: (f,) int64, where in (p,) each of them is computed.
    """

    observation_p: np.ndarray
    batch_sizes: np.ndarray
    env: np.ndarray
    carries: np.ndarray
    frame_f: np.ndarray
    place_f: np.ndarray


def cut(begins: np.ndarray, observation: np.ndarray, envs: np.ndarray) -> Pieces:
    """Cut the rollout of some environments at episode starts.

    Args:
        begins: (t, n) bool, an episode begins with this frame (its memory is the initial one).
        observation: (t, n) int64, which of the distinct observations each frame saw.
        envs: (some,) int64, which environments.
    """
    steps, n = begins.shape
    cuts = begins[:, envs].T.copy()  # (some, t): the pieces of an environment lie side by side
    seen = observation[:, envs].T.ravel()
    carried = ~cuts[:, 0]
    cuts[:, 0] = True
    start = np.flatnonzero(cuts)  # of every piece, a place in the flattened (some, t)
    length = np.diff(np.append(start, cuts.size))
    row, time = np.divmod(start, steps)
    carries = (time == 0) & carried[row]

    within = np.arange(int(length.max()))
    alive = within < length[:, None]  # (pieces, longest)
    place = start[:, None] + within
    content = np.where(alive, seen[np.minimum(place, cuts.size - 1)], -1)
    # What is carried over is taken to differ between environments.
    content = np.column_stack([np.where(carries, envs[row] + 1, 0), content])
    rows = content.view(np.dtype((np.void, content.shape[1] * content.itemsize))).ravel()
    _, first, which = np.unique(rows, return_index=True, return_inverse=True)

    order = np.argsort(-length[first], kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    kept = first[order]  # the distinct pieces, longest first
    shown = alive[kept].T  # (longest, distinct)
    sizes = shown.sum(axis=1)
    offset = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    frame_row, frame_time = np.divmod(place[alive], steps)
    return Pieces(
        observation_p=content[kept, 1:].T[shown],
        batch_sizes=sizes,
        env=envs[row[kept]],
        carries=carries[kept],
        frame_f=frame_time * n + envs[frame_row],
        place_f=(offset[within] + rank[which][:, None])[alive],
    )
