"""What an edit of activations depends on: which of a rollout's activations may be computed once for all.

Rollouts compute each distinct context once. Under an edit that draws random numbers every episode would then
get the same draw, and one that compares the windows of a batch would see another batch. So an edit says what
it depends on, and one that says nothing is computed for every episode, in one batch::

    model.hooks([(name, Edit(spliced, Depends.token))])  # and a step computes its new tokens alone
    model.hooks([(name, Edit(silence, Depends.window))])  # equal contexts are computed once
    model.hooks([(name, Edit(add_noise, Depends.chance))])  # each episode has its own draw
    model.hooks([(name, batch_top_k)])  # not said: as Depends.batch
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from dtx.dt.hook_points import HookPoint


class Depends(enum.IntEnum):
    """What the edit of an activation depends on; each includes those before it.

    ``token``: what the forward pass computed at that token alone, not its place, its kind or other tokens: a
    vector (d,) is edited alike wherever it stands, so what earlier tokens put into attention stays as it is.
    ``window``: also the other tokens of its window, so equal windows are edited alike. ``chance``: also
    random numbers, of which each window has its own. ``batch``: also the other windows of the batch.
    """

    token = 0
    window = 1
    chance = 2
    batch = 3


BETWEEN_TOKENS = ("attn.hook_attn_scores", "attn.hook_pattern")
"""Points whose activations are of pairs of tokens: an edit here depends on the window at least."""


@dataclass(frozen=True)
class Edit:
    """A hook, or another function of activations, that says what it depends on.

    Attributes:
        function: Called in its place.
        depends: See :class:`Depends`.
    """

    function: Callable[..., Any]
    depends: Depends

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function gives."""
        return self.function(*args, **kwargs)


def depends_on(function: Callable[..., Any] | None) -> Depends:
    """What a function says that it depends on; ``batch`` if it says nothing; None edits nothing."""
    if function is None:
        return Depends.token
    return function.depends if isinstance(function, Edit) else Depends.batch


def most(modules: Iterable[nn.Module]) -> Depends:
    """What the edits in place depend on together.

    Hooks that were added by PyTorch's own methods cannot say, so they count as ``batch``. ``token`` if
    nothing is edited.
    """
    found = Depends.token
    for module in modules:
        said = module.fwd_hooks if isinstance(module, HookPoint) else []
        if len(module._forward_hooks) + len(module._forward_pre_hooks) > len(said):
            return Depends.batch
        if said and isinstance(module, HookPoint) and module.name.endswith(BETWEEN_TOKENS):
            found = max(found, Depends.window)
        found = max([found, *(depends_on(handle.user_hook) for handle in said)])
    return found
