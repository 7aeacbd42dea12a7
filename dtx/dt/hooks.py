"""Hooks that are asked for and would never be called are told: refused, or warned of.

TransformerLens, whose interface this is, adds a hook anywhere and says nothing where no pass comes by: at a
point whose switch is off, by a test of names that none passes, in a block of code in which the model does
not run. An edit that was never made then looks like an edit without an effect.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dtx.dt.edits import Depends, Edit, most
from dtx.dt.hook_points import HookedModule, HookPoint
from dtx.errors import UserError
from dtx.text import suggest

if TYPE_CHECKING:
    from dtx.dt.model_config import ModelConfig

Names = str | Collection[str] | Callable[[str], bool] | None
"""Activations by name: TransformerLens's ``names_filter``."""


class SwitchedPoint(HookPoint):
    """An activation that is computed only while a switch of the model's config is on.

    Args:
        switch: Its field of the config: ``use_attn_result``.
    """

    def __init__(self, switch: str):
        super().__init__()
        self.switch = switch


def hooked(*modules: nn.Module) -> bool:
    """Whether any of the modules, hook points among them, is read or edited by someone.

    Hooks are PyTorch's, so that those which are added without our methods count as well.
    """
    return any(
        m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks
        for m in modules
    )


class CheckedHooks(HookedModule):
    """A model with named activations, which says which hooks would never be called."""

    cfg: ModelConfig

    def computed(self, names: Names) -> frozenset[str]:
        """The activations that are asked for and that a forward pass computes as the model is now.

        Args:
            names: None for all, a name, several, or a test of a name.

        Raises:
            UserError: A name is no hook point, or its switch is off; or nothing is chosen.
        """
        if isinstance(names, str):
            names = (names,)
        if names is not None and not callable(names):
            if not names:
                raise UserError("no hook point is named; their names are in model.hook_dict")
            for name in names:
                self._check(name)
            return frozenset(names)
        chosen = [name for name in self.hook_dict if names is None or names(name)]
        if not chosen:
            raise UserError(
                "the test of names chooses no hook point; their names are in model.hook_dict"
            )
        there = frozenset(name for name in chosen if self._switch_off(name) is None)
        if not there:
            self._check(chosen[0])
        return there

    def _check(self, name: str) -> None:
        if name not in self.hook_dict:
            leaf = name.rpartition(".")[2]
            alike = [known for known in self.hook_dict if known.endswith(leaf)]
            raise UserError(f"no hook point {name!r}{suggest(name, alike or list(self.hook_dict))}")
        if (switch := self._switch_off(name)) is not None:
            raise UserError(
                f"{name} is not computed, for {switch} is off: call model.set_{switch}(True) before"
            )

    def _switch_off(self, name: str) -> str | None:
        point = self.hook_dict[name]
        if isinstance(point, SwitchedPoint) and not getattr(self.cfg, point.switch):
            return point.switch
        return None

    @property
    def depends(self) -> Depends:
        """What the edits in place depend on; see :class:`dtx.dt.edits.Depends`."""
        return most([self, *self.mod_dict.values()])

    def switch(self, switch: str, use: bool) -> None:
        """Turn a switch on or off; warns of hooks that are no longer called."""
        setattr(self.cfg, switch, use)
        left = [n for n, point in self.hook_dict.items() if self._switch_off(n) and hooked(point)]
        if left and not use:
            warnings.warn(f"hooks are no longer called: {', '.join(left)}", stacklevel=3)

    def add_hook(self, name: str | Callable[[str], bool], *args: Any, **kwargs: Any) -> None:
        """As :class:`HookedModule` has it; names as in :meth:`hooks`."""
        self.computed(name)
        super().add_hook(name, *args, **kwargs)

    @contextmanager
    def hooks(
        self,
        fwd_hooks: Sequence[tuple[str | Callable[[str], bool], Callable]] = (),
        bwd_hooks: Sequence[tuple[str | Callable[[str], bool], Callable]] = (),
        reset_hooks_end: bool = True,
        clear_contexts: bool = False,
    ) -> Iterator[HookedModule]:
        """Hooks for the time of a block; warns of hooks of the forward pass that were not called in it.

        Raises:
            UserError: A hook can never be called; see :meth:`computed`.
        """
        fwd_hooks, bwd_hooks = list(fwd_hooks), list(bwd_hooks)
        for name, _ in (*fwd_hooks, *bwd_hooks):
            self.computed(name)
        if bwd_hooks and not torch.is_grad_enabled():
            warnings.warn(
                "gradients are off here: no hook of the backward pass is called", stacklevel=3
            )
        called = bytearray(len(fwd_hooks))
        watched = [(n, _watched(called, i, h)) for i, (n, h) in enumerate(fwd_hooks)]
        with super().hooks(
            watched if reset_hooks_end else fwd_hooks, bwd_hooks, reset_hooks_end, clear_contexts
        ):
            yield self
        if reset_hooks_end and not all(called):
            missed = [name for (name, _), was in zip(fwd_hooks, called, strict=True) if not was]
            words = ", ".join(n if isinstance(n, str) else "a test of names" for n in missed[:3])
            more = f" and {len(missed) - 3} more" if len(missed) > 3 else ""
            warnings.warn(
                f"hooks were never called: {words}{more}; no forward pass of this model came by while they "
                "were in place",
                stacklevel=3,
            )

    def get_caching_hooks(self, names_filter: Names = None, *args: Any, **kwargs: Any) -> Any:
        """As :class:`HookedModule` has it, of what is computed; see :meth:`computed`."""
        there = self.computed(names_filter)
        return super().get_caching_hooks(there.__contains__, *args, **kwargs)

    def add_caching_hooks(self, names_filter: Names = None, *args: Any, **kwargs: Any) -> dict:
        """As :class:`HookedModule` has it; names as in :meth:`computed`."""
        self.computed(names_filter)
        return super().add_caching_hooks(names_filter, *args, **kwargs)

    def run_with_cache(self, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Tensor]]:
        """As :class:`HookedModule` has it; warns of a cache in which all is empty.

        Raises:
            UserError: Nothing would be kept; see :meth:`computed`.
        """
        out, cache = super().run_with_cache(*args, **kwargs)
        name, value = next(iter(cache.items()))
        if not value.numel():
            warnings.warn(
                f"the cache is empty: {name} has shape {tuple(value.shape)}; there are no windows, or "
                "pos_slice chooses no token",
                stacklevel=2,
            )
        return out, cache


def _watched(called: bytearray, place: int, hook: Callable) -> Callable:
    """A hook that notes its calls; one that says what it depends on says so still."""
    if isinstance(hook, Edit):
        return replace(hook, function=partial(_note, called, place, hook.function))
    return partial(_note, called, place, hook)


def _note(called: bytearray, place: int, wanted: Callable, value: Any, hook: Any) -> Any:
    """Call a hook, and remember that it was."""
    called[place] = 1
    return wanted(value, hook=hook)
