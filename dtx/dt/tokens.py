"""The order of a window's tokens: which kinds a timestep has, what they are called, and where they stand.

A window of three timesteps of a Decision Transformer is ``R1 S1 A1 R2 S2 A2 R3 S3``: it ends with a state,
whose action is to be predicted. A behaviour clone has no reward-to-go: ``S1 A1 S2 A2 S3``.

Letters: n tokens of a window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

REWARD_TO_GO, STATE, ACTION = KINDS = ("R", "S", "A")
PADDING = "pad"
"""Name and kind of the tokens of a timestep before the episode."""
Steps = TypeVar("Steps", int, np.ndarray)
"""A number of timesteps, or an array of them."""


@dataclass(frozen=True)
class TokenLayout:
    """Tokens of each timestep, in their order: ``RSA``, or ``SA`` for a behaviour clone.

    Tokens behind the last state are no part of a window. Places and steps count from 0, names from 1.

    Attributes:
        kinds: One letter a token of a timestep.
    """

    kinds: str

    @property
    def per_step(self) -> int:
        """Tokens of a timestep."""
        return len(self.kinds)

    @property
    def has_reward_to_go(self) -> bool:
        """Whether reward-to-go is a token."""
        return REWARD_TO_GO in self.kinds

    @property
    def first_state(self) -> int:
        """Place of the first state token."""
        return self.slot(STATE)

    @property
    def states(self) -> slice:
        """Places of the state tokens."""
        return self.places(STATE)

    def slot(self, kind: str) -> int:
        """Place of a kind among the tokens of its timestep.

        Raises:
            ValueError: There are no such tokens.
        """
        return self.kinds.index(kind)

    def places(self, kind: str) -> slice:
        """Places of all tokens of a kind."""
        return slice(self.slot(kind), None, self.per_step)

    def tokens(self, steps: int) -> int:
        """Tokens of a window of so many timesteps."""
        return steps * self.per_step - self._behind_state

    def steps(self, tokens: int) -> int:
        """Timesteps of a window of so many tokens; of a table of positions: of the longest window."""
        return (tokens + self._behind_state) // self.per_step

    @property
    def _behind_state(self) -> int:
        """Tokens of a timestep after its state: none of them at the end of a window."""
        return self.per_step - 1 - self.first_state

    def place(self, kind: str, step: Steps) -> Steps:
        """Place of the token of a kind at a timestep, or at each of several."""
        return step * self.per_step + self.slot(kind)

    def last_state(self, steps: Steps) -> Steps:
        """Place of the last state token of a window of so many timesteps: its last token."""
        return self.place(STATE, steps - 1)

    def kind(self, place: int) -> str:
        """Kind of the token at a place."""
        return self.kinds[place % self.per_step]

    def step(self, place: int) -> int:
        """Timestep of the token at a place."""
        return place // self.per_step

    def name(self, place: int) -> str:
        """Name of the token at a place: ``S2``."""
        return f"{self.kind(place)}{self.step(place) + 1}"

    def index(self, name: str) -> int:
        """Place of a token by name.

        Raises:
            ValueError: There are no such tokens.
        """
        return self.place(name[0], int(name[1:]) - 1)

    def names(self, tokens: int) -> list[str]:
        """Names of all tokens of a window: ``R1 S1 A1 R2 ...``."""
        return [self.name(place) for place in range(tokens)]

    def is_kind(self, tokens: int, *kinds: str) -> np.ndarray:
        """(n,) bool: which tokens of a window are of these kinds."""
        return np.isin([self.kind(place) for place in range(tokens)], kinds)

    def step_of(self, tokens: int) -> np.ndarray:
        """(n,) int64: the timestep of every token of a window."""
        return np.arange(tokens) // self.per_step

    def slot_of(self, tokens: int) -> np.ndarray:
        """(n,) int64: the place of every token of a window among those of its timestep."""
        return np.arange(tokens) % self.per_step

    def padded(self, steps: int, missing: int) -> NamedTokens:
        """Tokens of windows of ``steps`` timesteps, the first ``missing`` of which are padding."""
        tokens = self.tokens(steps)
        real = self.names(tokens - missing * self.per_step)
        names = [PADDING] * (tokens - len(real)) + real
        return NamedTokens(tuple(names), np.array([kind_of(name) for name in names]))


def layout_of(reward_to_go: bool) -> TokenLayout:
    """The layout of a Decision Transformer, or of a behaviour clone."""
    return DECISION_TRANSFORMER if reward_to_go else BEHAVIOUR_CLONE


DECISION_TRANSFORMER, BEHAVIOUR_CLONE = TokenLayout("RSA"), TokenLayout("SA")


def kind_of(name: str) -> str:
    """The kind of a token by its name: ``S`` of ``S2``; padding is a kind of its own."""
    return name if name == PADDING else name[0]


@dataclass(frozen=True)
class NamedTokens:
    """The tokens of windows that all have the same padding.

    Attributes:
        names: (n,) ``R1 S1 A1 ...``, numbered from the first step that is not padding; or ``pad``.
        kinds: (n,) R, S, A or pad.
    """

    names: tuple[str, ...]
    kinds: np.ndarray

    @property
    def real(self) -> np.ndarray:
        """(n,) bool, not padding."""
        return self.kinds != PADDING

    def of(self, *kinds: str) -> np.ndarray:
        """(n,) bool: tokens of these kinds."""
        return np.isin(self.kinds, kinds)

    def index(self, name: str) -> int:
        """The place of a token by name."""
        return self.names.index(name)
