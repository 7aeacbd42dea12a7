"""What a Decision Transformer reads: padded windows (:class:`Context`) or packed ones (:class:`Packed`).

Shape suffixes: b windows, t timesteps of a window, u rows of the table of distinct observations,
c channels of a flattened observation (980 for MiniGrid), N tokens of a packed batch, n tokens of a window.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import overload

import numpy as np
import torch
from torch import Tensor

from dtx.dt.layers import Packing
from dtx.dt.tokens import DECISION_TRANSFORMER, TokenLayout


class Context(dict):
    """A batch of windows as a dictionary that TransformerLens's tools accept in the place of tokens.

    Keys:
        observation: (b, t) int64, rows of ``table``; or absent, with ``one_hot`` instead.
        table: (u, c) the distinct observations, flattened one-hots; the last row is zero (padding).
        one_hot: (b, t, c) float observations: for gradients and patches on them.
        action: (b, t) int64; the last one of a window is not read. The number of actions is padding.
        reward_to_go: (b, t) float; a behaviour clone does not read it.
        timestep: (b, t) int64 since the start of the episode, 0 in left padding.

    Attributes:
        layout: The order of the tokens that the windows become.
    """

    layout: TokenLayout = DECISION_TRANSFORMER

    @classmethod
    def of(cls, *, layout: TokenLayout = DECISION_TRANSFORMER, **values: Tensor) -> Context:
        """Build a context; the ``layout`` of the model that reads it decides its ``shape``."""
        context = cls(values)
        context.layout = layout
        return context

    @property
    def shape(self) -> torch.Size:
        """(b, n): windows and tokens in each."""
        windows, steps = self["timestep"].shape
        return torch.Size((windows, self.layout.tokens(steps)))

    @property
    def ndim(self) -> int:
        return 2

    def dim(self) -> int:
        """As for a tensor."""
        return 2

    @property
    def device(self) -> torch.device:
        return self["timestep"].device

    def __len__(self) -> int:
        return self.shape[0]

    @overload
    def __getitem__(self, index: str) -> Tensor: ...

    @overload
    def __getitem__(self, index: int | slice | Tensor | np.ndarray) -> Context: ...

    def __getitem__(self, index: str | int | slice | Tensor | np.ndarray) -> Tensor | Context:
        """A value by name, or a context of some windows by slice, mask, integers or tensor."""
        if isinstance(index, str):
            return super().__getitem__(index)
        if isinstance(index, int):
            index = slice(index, index + 1) if index != -1 else slice(index, None)
        return self._map(lambda x: x[index])

    def clone(self) -> Context:
        """A copy whose tensors can be edited in place."""
        return self._map(torch.clone, table=True)

    def repeat(self, times: int, *_: int) -> Context:
        """The windows repeated along the batch axis."""
        return self._map(lambda x: x.repeat(times, *[1] * (x.ndim - 1)))

    def to(self, *args, **kwargs) -> Context:
        """Move to a device or floating-point type."""
        device = self["reward_to_go"].to(*args, **kwargs).device
        return self._map(
            lambda x: x.to(*args, **kwargs) if x.is_floating_point() else x.to(device), table=True
        )

    def _map(self, change, table: bool = False) -> Context:
        changed = type(self)(
            {k: v if k == "table" and not table else change(v) for k, v in self.items()}
        )
        changed.layout = self.layout
        return changed


@dataclass(frozen=True)
class Packed:
    """Windows without padding between them, sorted by length, equal windows once.

    Attributes:
        table: (u, c) the distinct observations of the batch.
        reward_to_go: (r,) the distinct values of reward-to-go in the batch.
        content: (N,) token contents: a row of the observation table, u + action, or u + actions + 1 + r.
        timestep: (N,) timestep of each token's step. place: (N,) place of each token in its window.
        packing: Where the windows lie.
        target: (states,) action taken at each state token. weight: (states,) how often its window was
            drawn; 0 in left padding.
        total: () weight of the batch. It is the sum of ``weight``, unless this is a rank's share of it.
        windows: Windows drawn, equal ones counted apart.
    """

    table: Tensor
    reward_to_go: Tensor
    content: Tensor
    timestep: Tensor
    place: Tensor
    packing: Packing
    target: Tensor
    weight: Tensor
    total: Tensor
    windows: int

    def to(self, device: torch.device) -> Packed:
        """Move to a device."""
        if device == self.table.device:
            return self
        packing = dataclasses.replace(self.packing, state_t=self.packing.state_t.to(device))
        names = [f.name for f in dataclasses.fields(self)]
        values = {name: getattr(self, name) for name in names}
        moved = {k: v.to(device) for k, v in values.items() if isinstance(v, Tensor)}
        return dataclasses.replace(self, packing=packing, **moved)
