"""Windows that are run once and go on from an activation with something added to it.

Shape suffixes: b window, n token, d width of the activation (all heads together), m model width, r row of a
forward pass (one edit of one window), t timestep, a action.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dtx.analysis.feature_effects.spec import PARTS, place_of
from dtx.dt.context import Context
from dtx.dt.forward import Hook, blocks_of
from dtx.dt.model import DecisionTransformerModel
from dtx.errors import UserError

_STREAM = {"hook_resid_pre": 0, "hook_resid_mid": 1, "hook_resid_post": 2}


@dataclass(frozen=True)
class Site:
    """An activation whose features are changed.

    Attributes:
        hook: ``blocks.1.hook_resid_post``. layer: Its block. part: Its name in the block.
    """

    hook: str
    layer: int
    part: str

    @staticmethod
    def of(hook: str) -> Site:
        """The site of a hook.

        Raises:
            UserError: What is there cannot be followed.
        """
        place = place_of(hook)
        if place is None:
            raise UserError(
                f"dictionary: {hook} cannot be followed; known are {', '.join(PARTS)} of blocks"
            )
        return Site(hook, *place)

    @property
    def is_stream(self) -> bool:
        """Whether it is the residual stream itself."""
        return self.part in _STREAM

    @property
    def readers_from(self) -> tuple[int, str]:
        """(layer, ``attention`` or ``mlp``) of the first component that reads what is changed here."""
        if self.part in ("hook_resid_post", "hook_mlp_out", "mlp.hook_post"):
            return self.layer + 1, "attention"
        return self.layer, "attention" if self.part == "hook_resid_pre" else "mlp"

    @property
    def writers_to(self) -> tuple[int, str]:
        """(layer, ``attention`` or ``mlp``) of the first component that is not read here."""
        if self.part in ("hook_resid_pre", "hook_attn_out", "attn.hook_z"):
            return self.layer, "attention"
        return (
            (self.layer + 1, "attention") if self.part == "hook_resid_post" else (self.layer, "mlp")
        )

    def written(self, model: DecisionTransformerModel, change: Tensor) -> Tensor:
        """What a change (..., d) of the activation adds to the residual stream (..., m)."""
        block = blocks_of(model)[self.layer]
        if self.part == "mlp.hook_post":
            return change @ block.mlp.W_out.detach()
        return (
            change @ block.attn.W_O.detach().flatten(0, 1) if self.part == "attn.hook_z" else change
        )


class SiteRuns:
    """Windows of one length; the unedited ones are computed once.

    Args:
        model: Without hooks.
        context: b windows.
        site: What is changed.
        last_only: Logits of the last state alone (r, a), else of all states (r, t, a).

    Attributes:
        x_bnd: The activation. logits: Of the unedited windows.
    """

    def __init__(
        self, model: DecisionTransformerModel, context: Context, site: Site, *, last_only: bool
    ):
        self.model, self.context, self.site, self.last_only = model, context, site, last_only
        self.stream = f"blocks.{site.layer}.hook_resid_pre"
        names = {site.hook, self.stream}
        with torch.no_grad():
            logits, cache = model.run_with_cache(context, names_filter=names.__contains__)
        self.x_bnd = self._flat(cache[site.hook])
        self._pre_bnm = cache[self.stream]
        self.logits = logits[:, -1] if last_only else logits

    def __len__(self) -> int:
        return len(self.context)

    def _flat(self, x: Tensor) -> Tensor:
        return x.flatten(2) if self.site.part == "attn.hook_z" else x

    def edited(self, row_r: Tensor, added_rnd: Tensor) -> Tensor:
        """Logits of windows ``row_r`` with something added to their activation."""
        return self.replaced(row_r, self.x_bnd[row_r] + added_rnd)

    def replaced(self, row_r: Tensor, x_rnd: Tensor, hooks: Sequence[Hook] = ()) -> Tensor:
        """Logits with another activation; ``hooks`` are further edits, from there on."""
        layer = self.site.layer
        if self.site.part == "hook_resid_post":
            return self._on(layer + 1, x_rnd, hooks)
        if self.site.part == "hook_resid_pre":
            return self._on(layer, x_rnd, hooks)

        def put(value: Tensor, hook: Any = None) -> Tensor:
            return x_rnd.reshape(value.shape)

        return self._on(layer, self._pre_bnm[row_r], [(self.site.hook, put), *hooks])

    def _on(self, layer: int, stream_rnm: Tensor, hooks: Sequence[Hook]) -> Tensor:
        model = self.model
        with model.hooks(fwd_hooks=list(hooks)) if hooks else nullcontext():
            blocks = blocks_of(model)[layer:]
            for number, block in enumerate(blocks):
                alone = self.last_only and number == len(blocks) - 1 and not hooks
                stream_rnm = block.last(stream_rnm) if alone else block(stream_rnm)
            if self.last_only:
                return model.read(stream_rnm[:, -1])
            return model.read(stream_rnm[:, model.cfg.layout.states])
