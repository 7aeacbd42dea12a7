"""An edit of a running model: a vector added, or activations held at what they are when asked for much.

Shape suffixes: b window, t timestep, n token, d model, h head, e head width, a action.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from dtx.analysis.steering.spec import Tokens
from dtx.analysis.steering.windows import asked
from dtx.dt.context import Context
from dtx.dt.edits import Depends
from dtx.dt.forward import run_from
from dtx.dt.hook_points import HookPoint
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.tokens import REWARD_TO_GO, STATE


@dataclass(frozen=True)
class ActivationEdit:
    """What is changed while the model runs.

    Attributes:
        name: Of the site, for people.
        hook: Where, by TransformerLens's name: an activation of a block. head: Which head, at ``hook_z``.
        tokens: At which tokens.
        alpha: Size; 0 changes nothing.
        vector: (d,) what is added; None: activations go towards those of the same window asked for ``clamp``.
        direction: (d,) for a clamp's control: this unit vector, as long as the change would have been.
        only_if: Entry of the flattened observation that a window must show for it to be edited.
    """

    name: str
    hook: str
    tokens: Tokens
    head: int | None = None
    alpha: float = 1.0
    vector: Tensor | None = None
    clamp: float = 0.0
    direction: Tensor | None = None
    only_if: int | None = None

    @property
    def layer(self) -> int:
        """The block that is edited, or that begins with what is edited."""
        return int(self.hook.split(".")[1])

    def at(self, alpha: float) -> ActivationEdit:
        """The same at another size."""
        return replace(self, alpha=alpha)


def residual(layer: int) -> str:
    """The residual stream before a layer's block; before the first one it is the embedding."""
    return f"blocks.{layer}.hook_resid_pre"


def mask(context: Context, tokens: Tokens) -> Tensor:
    """Where in the windows, (b, n) bool."""
    b, n = context.shape
    layout, place_n = context.layout, torch.arange(n)
    state_n, asked_n = (torch.from_numpy(layout.is_kind(n, k)) for k in (STATE, REWARD_TO_GO))
    if tokens is Tokens.first_state:
        if "one_hot" in context:
            padding_bt = context["one_hot"].abs().sum(-1) == 0
        else:
            padding_bt = context["observation"] == len(context["table"]) - 1
        first_b = (~padding_bt).int().argmax(1) * layout.per_step + layout.first_state
        return place_n[None] == first_b[:, None]
    where_n = {
        Tokens.last_state: place_n == n - 1,
        Tokens.last_reward_to_go: asked_n & (place_n == n - 2),
        Tokens.reward_to_go: asked_n,
        Tokens.states: state_n,
        Tokens.all: torch.ones(n, dtype=torch.bool),
    }[tokens]
    return where_n.expand(b, n)


def shows(context: Context, entry: int) -> Tensor:
    """Windows that show something in the view at any step, (b,) bool."""
    if "one_hot" in context:
        return context["one_hot"][..., entry].bool().any(1)
    table = cast(Tensor, context["table"])
    return table[:, entry].bool()[context["observation"]].any(1)


class Steered:
    """A model with an edit in place; it acts like a model in rollouts."""

    def __init__(self, model: DecisionTransformerModel, edit: ActivationEdit):
        self.model, self.edit, self.cfg = model, edit, model.cfg
        self.by_token = None  # an edit may change the keys of tokens long past
        self.depends = Depends.window

    def last_logits(
        self, context: Context, donor: Tensor | None = None, start: Tensor | None = None
    ) -> Tensor:
        """Logits (b, a) at the last state.

        Args:
            context: b windows.
            donor: What a clamp's activations go towards; computed if not given.
            start: (b, n, d) the unedited residual stream before the edited layer; computed if not given.
        """
        model, edit = self.model, self.edit
        if edit.vector is None and donor is None:
            donor = activations(model, asked(context, edit.clamp), edit.hook)
        resid_bnd = model.residual(context, edit.layer) if start is None else start
        patch = self._patch(context, donor)
        if edit.hook == residual(edit.layer):
            return run_from(model, edit.layer, patch(resid_bnd))
        return run_from(model, edit.layer, resid_bnd, [(edit.hook, patch)])

    def _patch(self, context: Context, donor: Tensor | None) -> Callable:
        edit = self.edit
        where_bn1 = mask(context, edit.tokens)
        if edit.only_if is not None:
            where_bn1 = where_bn1 & shows(context, edit.only_if)[:, None]
        where_bn1 = where_bn1.unsqueeze(-1)

        def patch(value: Tensor, hook: HookPoint | None = None) -> Tensor:
            old = value if edit.head is None else value[:, :, edit.head]
            if edit.vector is not None:
                change = edit.vector
            else:
                assert donor is not None
                change = (donor if edit.head is None else donor[:, :, edit.head]) - old
                if edit.direction is not None:
                    change = change.norm(dim=-1, keepdim=True) * edit.direction
            new = old + where_bn1 * (edit.alpha * change)
            if edit.head is None:
                return new
            value = value.clone()
            value[:, :, edit.head] = new
            return value

        return patch


def activations(model: DecisionTransformerModel, context: Context, hook: str) -> Tensor:
    """What stands at a hook."""
    _, cache = model.run_with_cache(context, names_filter=hook)
    return cache[hook]
