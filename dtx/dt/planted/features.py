"""Where the named features of a planted model lie in the residual stream, and how they are read.

Shape suffixes: f feature, k dimension before LayerNorm's pairs and rotation, d model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ASKED, HERE, AT_REWARD_TO_GO, PLACE = "asked", "asked_here", "at_reward_to_go", "place"
KEY_SEEN, BALL_SEEN, TARGET = "instruction_key", "instruction_ball", "target"
HIGH, INSTRUCTION, TURN, TIME = "high", "instruction", "turn", "time"
SEEN = "instruction_known"
TWICE = "instruction_twice"  # what two heads have brought, together
AT_FIRST = "at_first"  # 1 at the first token of the window
CIRCUIT = [
    ASKED,  # reward-to-go, at its own token
    AT_REWARD_TO_GO,  # 1 at such tokens
    PLACE,  # in the window, from 0 to PLACES
    KEY_SEEN,  # 1 where the instruction is in view and is a key
    BALL_SEEN,  # the same for a ball
    TARGET,  # at the junction: 1 if the key is on the left, -1 if on the right; else 0
    HERE,  # reward-to-go, copied to all tokens of its step
    HIGH,  # 1 if that is much, -1 if little
    INSTRUCTION,  # copied from where it is in view: 1 for a key, -1 for a ball, else 0
    TURN,  # left minus right
    TIME,  # in the episode, from 0 to 1; nothing reads it
]
ACTIONS = ["action_left", "action_right", "action_forward", "action_other"]
"""The action of an action token; nothing reads these."""
DISTRACTION = ["distraction_0", "distraction_1", "distraction_2", "distraction_3"]
"""What distractor heads write; nothing but they read these."""


def at_relay(stop: int) -> str:
    """1 at the tokens that the instruction passes at a stop."""
    return f"at_relay_{stop}"


def relayed(stop: int) -> str:
    """The instruction at those tokens, before it is moved on."""
    return f"relayed_{stop}"


BALLAST = 1000.0
"""Size of a constant beside the features, which makes LayerNorm's scale almost the same for all tokens."""

PLACES = 5.0
"""Size of the last place: the larger, the less interference blurs which of two tokens is the later one."""
_RARE = 0.02
"""Weight of interference from a feature that is not there when another one is read."""
_ALWAYS = (PLACE, TIME, HERE, HIGH)
_PRESENT = {
    # Features that are there when one is read at ... : reward-to-go, all or state tokens.
    "reward_to_go": {ASKED, AT_REWARD_TO_GO, PLACE, TIME},
    "all": {*CIRCUIT, *ACTIONS},
    "state": {*_ALWAYS, TARGET, INSTRUCTION, KEY_SEEN, BALL_SEEN},
}
_SIZE = {TURN: 20.0, PLACE: PLACES}
"""Of features that are not about 1 where they are."""


@dataclass(frozen=True)
class Layout:
    """Directions of the features and vectors that read them.

    Attributes:
        names: (f,). write: (f, d) what is added to the stream to have 1 of a feature.
        ballast: (d,) constant part of every token; zero without LayerNorm.
    """

    names: list[str]
    write_fd: np.ndarray
    ballast: np.ndarray

    def write(self, name: str) -> np.ndarray:
        """(d,) direction of a feature."""
        return self.write_fd[self.names.index(name)]

    def read(self, name: str, where: str = "state") -> np.ndarray:
        """(d,) vector whose product with the stream is how much of a feature is there.

        With a dimension a feature this is the feature's direction. In superposition it has product 1 with
        its own feature and the least squared interference from those that are present (the minimum-variance
        reader of Capon, 1969).

        Args:
            where: Tokens at which it has to be good: ``reward_to_go``, ``all`` or ``state``.
        """
        own = self.write(name)
        present = [n in _PRESENT[where] for n in self.names]
        weight_f = np.where(present, [_SIZE.get(n, 1.0) for n in self.names], _RARE)
        gram_dd = (self.write_fd * weight_f[:, None] ** 2).T @ self.write_fd
        reader = np.linalg.pinv(gram_dd, rcond=1e-10, hermitian=True) @ own
        return reader / (reader @ own)


def lay_out(
    names: list[str], dimensions: int | None, layer_norm: bool, rotation: bool, seed: int
) -> Layout:
    """Place the features.

    Args:
        dimensions: None: one a feature. Fewer: unit vectors as orthogonal as so many can be.
        layer_norm: Make every direction sum to 0, as LayerNorm would, and add a ballast.
        rotation: Turn everything at random (with LayerNorm: among directions that sum to 0).
        seed: Of superposed directions and rotation.
    """
    rng = np.random.default_rng(seed)
    count = len(names)
    write_fk = np.eye(count) if dimensions is None else _spread(rng, count, dimensions)
    ballast = np.zeros(write_fk.shape[1])
    if layer_norm:
        write_fk = np.pad(write_fk, ((0, 0), (0, 1)))
        ballast = np.append(ballast, BALLAST)
        pairs = np.kron(np.eye(len(ballast)), [1.0, -1.0]) / np.sqrt(2)
        write_fk, ballast = write_fk @ pairs, ballast @ pairs
    if rotation:
        turned = _rotation(rng, write_fk.shape[1], keep_mean=layer_norm)
        write_fk, ballast = write_fk @ turned, ballast @ turned
    return Layout(names, write_fk, ballast)


def _spread(rng: np.random.Generator, count: int, dimensions: int) -> np.ndarray:
    """(count, dimensions) unit vectors, pushed apart by descent on the fourth powers of their products."""
    vectors = rng.normal(size=(count, dimensions))
    for _ in range(2000):
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        products = vectors @ vectors.T
        np.fill_diagonal(products, 0)
        vectors -= 0.2 * products**3 @ vectors
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _rotation(rng: np.random.Generator, size: int, keep_mean: bool) -> np.ndarray:
    """A random rotation (size, size); with ``keep_mean`` one that leaves the vector of ones alone."""
    if not keep_mean:
        return np.linalg.qr(rng.normal(size=(size, size)))[0]
    start = np.column_stack([np.ones(size), rng.normal(size=(size, size - 1))])
    basis = np.linalg.qr(start)[0][:, 1:]  # of the vectors that sum to 0
    inner = np.linalg.qr(rng.normal(size=(size - 1, size - 1)))[0]
    return basis @ inner @ basis.T + np.full((size, size), 1 / size)
