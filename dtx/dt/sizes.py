"""Memory and work of a Decision Transformer from its sizes alone: without torch, however absurd they are."""

from __future__ import annotations

from dataclasses import dataclass

FLOAT = 4
"""Bytes of a number."""
OBSERVATION = 980
"""Length of a flattened one-hot observation."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of a model.

    Attributes:
        tokens: In the longest window. n_ctx: Rows of its position table.
        n_timesteps: That it knows, with ``time_embedding`` learned.
        matrices: Of an MLP: 2, or 3 with a gate.
    """

    n_layers: int
    n_heads: int
    d_model: int
    d_mlp: int
    tokens: int
    n_ctx: int
    n_timesteps: int
    time_embedding: str
    n_actions: int
    matrices: int = 2

    @property
    def block(self) -> int:
        """Parameters of all blocks."""
        return self.n_layers * self.d_model * (4 * self.d_model + self.matrices * self.d_mlp)

    @property
    def parameters(self) -> int:
        """All parameters, within a few per cent."""
        timesteps = self.n_timesteps if self.time_embedding == "learned" else 1
        rows = OBSERVATION + self.n_ctx + timesteps + 2 * self.n_actions
        return self.block + self.d_model * rows

    @property
    def edges(self) -> int:
        """Edges between its parts, about: 800 with 3 layers of 8 heads."""
        senders = self.n_layers * (self.n_heads + 1)
        return (senders + 1) * self.n_layers * (3 * self.n_heads + 1) // 2 + senders

    def within(self, tokens: int | None) -> int:
        """Tokens of a window that is no longer than the model's longest; None: that one."""
        return self.tokens if tokens is None else min(tokens, self.tokens)

    def activations(self, tokens: int | None = None) -> float:
        """Bytes of all activations of a window, as a backward pass needs them."""
        n = self.within(tokens)
        of_token = 16 * self.d_model + 4 * self.d_mlp
        return FLOAT * self.n_layers * (n * of_token + 3 * self.n_heads * n * n)

    def operations(self, tokens: int | None = None) -> float:
        """Multiplications and additions of a forward pass on a window."""
        n = self.within(tokens)
        return 2 * n * self.block + 4 * n * n * self.d_model * self.n_layers
