"""The settings of stored activations; ``conf/activations/windows.yaml`` explains them."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from dtx.activations.names import token_hooks
from dtx.config.ranges import Count, Natural, NotEmpty, OpenShare, Seed
from dtx.dataset.dataset import Dataset
from dtx.dt.decision_transformer import DecisionTransformer
from dtx.dt.model_stage import ModelStage
from dtx.dt.tokens import ACTION, REWARD_TO_GO, STATE
from dtx.text import suggest

SHARD = 32_768
"""Rows after which a shard ends, with the window that reaches it: held in memory, and lost by a kill."""
NO_REWARD_TO_GO = "the model is a behaviour clone and reads no R tokens; ask for [S, A], or null"


class Numbers(enum.Enum):
    """Number type on the disk; files end in ``f16`` or ``f32``."""

    float16 = "float16"
    float32 = "float32"

    @property
    def dtype(self) -> np.dtype:
        """Little-endian, as it is on the disk."""
        return np.dtype("<f2" if self is Numbers.float16 else "<f4")


class TokenKind(enum.Enum):
    """A kind of token: reward-to-go, state, action."""

    R = REWARD_TO_GO
    S = STATE
    A = ACTION


@dataclass(frozen=True, kw_only=True)
class ActivationsSpec:
    """Of which model, on which windows of which demonstrations, and how they are kept."""

    dt: ModelStage
    dataset: Dataset
    checkpoint: Natural | None
    hooks: Annotated[tuple[str, ...], NotEmpty()]
    tokens: Annotated[tuple[TokenKind, ...], NotEmpty("needs at least one kind")] | None
    episodes: Count | None
    other_windows: Natural | None
    numbers: Numbers
    held_out: OpenShare
    seed: Seed

    def check(self) -> Iterator[tuple[str, str]]:
        """Hooks, kinds of tokens and checkpoints that the model does not have, as far as its config says."""
        for name in sorted({h for h in self.hooks if self.hooks.count(h) > 1}):
            yield "hooks", f"names {name} twice"
        sizes = self.dt.sizes
        known = None if sizes is None else token_hooks(sizes.n_layers)
        for name in self.hooks:
            if known is not None and name not in known:
                leaf = name.rpartition(".")[2]
                alike = [k for k in known if k.endswith(f".{leaf}")]
                yield (
                    "hooks",
                    f"the model has no {name!r} of each token{suggest(name, alike or known)}",
                )
        kinds = self.tokens or ()
        if len(set(kinds)) < len(kinds):
            yield "tokens", "names a kind twice"
        clone = isinstance(self.dt, DecisionTransformer) and not self.dt.reward_to_go
        if clone and TokenKind.R in kinds:
            yield "tokens", NO_REWARD_TO_GO
        kept = self.dt.kept_steps
        if self.checkpoint is not None and kept is not None and self.checkpoint not in kept:
            there = ", ".join(map(str, sorted(kept))) or "none"
            yield "checkpoint", f"the model keeps no step {self.checkpoint} (kept: {there})"
