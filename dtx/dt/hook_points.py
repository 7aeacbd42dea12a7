"""Named points of a model whose activations can be read and edited; the interface is TransformerLens's.

Code and tools that were written for ``transformer_lens.HookedRootModule`` work here as they are, without that
package and the 300 MB that it brings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Direction = Literal["fwd", "bwd"]
Function = Callable[..., Any]
"""``(value, hook=point)``; what it returns, if anything, takes the value's place."""
Place = str | Callable[[str], bool]
"""A point's name, or a test of names."""
Span = int | tuple | Sequence[int] | Tensor | None
"""Tokens: one; ``(start, stop)`` or ``(start, stop, step)``, as a slice; a list of several; None: all."""

_BY_HEAD = ("hook_q", "hook_k", "hook_v", "hook_z", "hook_result")  # (..., token, head, width)


@dataclass
class Handle:
    """A hook that was added.

    Attributes:
        hook: PyTorch's handle.
        is_permanent: Whether it stays when hooks are reset.
        context_level: Depth of the block in which it was added; None: outside any.
        user_hook: The function.
    """

    hook: RemovableHandle
    is_permanent: bool
    context_level: int | None
    user_hook: Function

    def within(self, including_permanent: bool, level: int | None) -> bool:
        """Whether it is among the hooks that a call is about."""
        return (including_permanent or not self.is_permanent) and (
            level is None or self.context_level == level
        )


class HookPoint(nn.Module):
    """An activation by name: gives what it is given, unless hooks edit it.

    Attributes:
        name: From the model's root, ``blocks.0.attn.hook_z``; :meth:`HookedModule.setup` sets it.
        ctx: For hooks to keep what they like.
        fwd_hooks: Hooks of the value.
        bwd_hooks: Hooks of its gradient.
    """

    def __init__(self) -> None:
        super().__init__()
        self.name = ""
        self.ctx: dict[Any, Any] = {}
        self.fwd_hooks: list[Handle] = []
        self.bwd_hooks: list[Handle] = []

    def forward(self, x: Tensor) -> Tensor:
        """The value itself."""
        return x

    def layer(self) -> int:
        """The block that it belongs to."""
        return int(self.name.split(".")[1])

    def add_hook(
        self,
        hook: Function,
        dir: Direction = "fwd",
        is_permanent: bool = False,
        level: int | None = None,
        prepend: bool = False,
    ) -> Handle:
        """Call a function with the value, or with its gradient, in every pass from now on."""

        def forward(module: nn.Module, inputs: Any, value: Any) -> Any:
            return hook(value, hook=self)

        def backward(module: nn.Module, inputs: Any, gradients: Any) -> Any:
            new = hook(gradients[0], hook=self)
            return new if new is None or isinstance(new, tuple) else (new,)

        if dir == "fwd":
            handle = self.register_forward_hook(forward, prepend=prepend)
        else:
            handle = self.register_full_backward_hook(backward, prepend=prepend)
        there = self._of(dir)
        made = Handle(handle, is_permanent, level, hook)
        there.insert(0 if prepend else len(there), made)
        return made

    def add_perma_hook(self, hook: Function, dir: Direction = "fwd") -> Handle:
        """Add a hook that stays when hooks are reset."""
        return self.add_hook(hook, dir, is_permanent=True)

    def remove_hooks(
        self,
        dir: Literal["fwd", "bwd", "both"] = "fwd",
        including_permanent: bool = False,
        level: int | None = None,
    ) -> None:
        """Remove hooks that were added here."""
        for one in ("fwd", "bwd") if dir == "both" else (dir,):
            there = self._of(one)
            for handle in [h for h in there if h.within(including_permanent, level)]:
                handle.hook.remove()
                there.remove(handle)

    def has_hooks(
        self,
        dir: Literal["fwd", "bwd", "both"] = "both",
        including_permanent: bool = True,
        level: int | None = None,
    ) -> bool:
        """Whether a function was added here."""
        ways: tuple[Direction, ...] = ("fwd", "bwd") if dir == "both" else (dir,)
        return any(h.within(including_permanent, level) for way in ways for h in self._of(way))

    def clear_context(self) -> None:
        """Forget what hooks kept."""
        self.ctx = {}

    def _of(self, dir: Direction) -> list[Handle]:
        return self.fwd_hooks if dir == "fwd" else self.bwd_hooks


class HookedModule(nn.Module):
    """A model whose activations have names.

    Attributes:
        hook_dict: The points by name; :meth:`setup`, at the end of ``__init__``, fills it.
        mod_dict: All modules by name.
    """

    hook_dict: dict[str, HookPoint]
    mod_dict: dict[str, nn.Module]

    def __init__(self) -> None:
        super().__init__()
        self.context_level = 0

    def setup(self) -> None:
        """Name the points."""
        self.mod_dict = {name: module for name, module in self.named_modules() if name}
        self.hook_dict = {n: m for n, m in self.mod_dict.items() if isinstance(m, HookPoint)}
        for name, point in self.hook_dict.items():
            point.name = name

    def hook_points(self) -> list[HookPoint]:
        """All points."""
        return list(self.hook_dict.values())

    def list_hooks(self) -> dict[str, list[Handle]]:
        """The hooks that were added, by the name of their point."""
        every = {name: [*p.fwd_hooks, *p.bwd_hooks] for name, p in self.hook_dict.items()}
        return {name: handles for name, handles in every.items() if handles}

    def add_hook(
        self,
        name: Place,
        hook: Function,
        dir: Direction = "fwd",
        is_permanent: bool = False,
        level: int | None = None,
        prepend: bool = False,
    ) -> None:
        """Add a hook at the point of a name, or at all that a test of names chooses."""
        for point in self._points(name):
            point.add_hook(hook, dir, is_permanent, level, prepend)

    def add_perma_hook(self, name: Place, hook: Function, dir: Direction = "fwd") -> None:
        """Add a hook that stays when hooks are reset."""
        self.add_hook(name, hook, dir, is_permanent=True)

    def reset_hooks(
        self,
        clear_contexts: bool = True,
        direction: Literal["fwd", "bwd", "both"] = "both",
        including_permanent: bool = False,
        level: int | None = None,
    ) -> None:
        """Remove all hooks that were added, permanent ones only if asked for."""
        for point in self.hook_points():
            if clear_contexts:
                point.clear_context()
            point.remove_hooks(direction, including_permanent, level)

    @contextmanager
    def hooks(
        self,
        fwd_hooks: Sequence[tuple[Place, Function]] = (),
        bwd_hooks: Sequence[tuple[Place, Function]] = (),
        reset_hooks_end: bool = True,
        clear_contexts: bool = False,
    ) -> Iterator[HookedModule]:
        """Hooks for the time of a block.

        Args:
            fwd_hooks: Name, or test of names, and function.
            bwd_hooks: The same of gradients.
            reset_hooks_end: Remove them at the end.
            clear_contexts: Have the points forget what hooks kept, too.
        """
        self.context_level += 1
        try:
            for name, hook in fwd_hooks:
                HookedModule.add_hook(self, name, hook, "fwd", level=self.context_level)
            for name, hook in bwd_hooks:
                HookedModule.add_hook(self, name, hook, "bwd", level=self.context_level)
            yield self
        finally:
            if reset_hooks_end:
                self.reset_hooks(clear_contexts, level=self.context_level)
            self.context_level -= 1

    def run_with_hooks(
        self,
        *inputs: Any,
        fwd_hooks: Sequence[tuple[Place, Function]] = (),
        bwd_hooks: Sequence[tuple[Place, Function]] = (),
        reset_hooks_end: bool = True,
        clear_contexts: bool = False,
        **settings: Any,
    ) -> Any:
        """What the model gives with hooks in place; for gradients keep them: ``reset_hooks_end=False``."""
        with self.hooks(fwd_hooks, bwd_hooks, reset_hooks_end, clear_contexts):
            return self.forward(*inputs, **settings)

    def run_with_cache(
        self,
        *inputs: Any,
        names_filter: Any = None,
        device: torch.device | str | None = None,
        remove_batch_dim: bool = False,
        incl_bwd: bool = False,
        reset_hooks_end: bool = True,
        clear_contexts: bool = False,
        pos_slice: Span = None,
        **settings: Any,
    ) -> tuple[Any, dict[str, Tensor]]:
        """What the model gives, and its activations by name; see :meth:`get_caching_hooks`.

        Args:
            *inputs: Of the model.
            names_filter: Which: a name, several, a test of names, or None for all.
            device: Where to keep them; None: where they are.
            remove_batch_dim: Leave out the first axis, of one window.
            incl_bwd: Also of the gradient of what the model gives, which is one number, as ``NAME_grad``.
            reset_hooks_end: Remove the hooks at the end.
            clear_contexts: Have the points forget what hooks kept, too.
            pos_slice: Tokens.
            **settings: Of the model.
        """
        cache, fwd, bwd = self.get_caching_hooks(
            names_filter, incl_bwd, device, remove_batch_dim, pos_slice=pos_slice
        )
        with self.hooks(fwd, bwd, reset_hooks_end, clear_contexts):
            out = self(*inputs, **settings)
            if incl_bwd:
                out.backward()
        return out, cache

    def get_caching_hooks(
        self,
        names_filter: Any = None,
        incl_bwd: bool = False,
        device: torch.device | str | None = None,
        remove_batch_dim: bool = False,
        cache: dict[str, Tensor] | None = None,
        pos_slice: Span = None,
    ) -> tuple[dict[str, Tensor], list, list]:
        """A dictionary, and hooks of values and of gradients that fill it; they are not added yet."""
        kept: dict[str, Tensor] = {} if cache is None else cache

        def keep(value: Tensor, hook: HookPoint, end: str = "") -> None:
            value = value.detach().to(device)
            if remove_batch_dim and value.shape[0] == 1:
                value = value[0]
            kept[hook.name + end] = _tokens(
                value, pos_slice, -3 if hook.name.endswith(_BY_HEAD) else -2
            )

        names = [name for name in self.hook_dict if _chosen(names_filter, name)]
        fwd = [(name, keep) for name in names]
        bwd = [(name, partial(keep, end="_grad")) for name in names] if incl_bwd else []
        return kept, fwd, bwd

    def add_caching_hooks(
        self,
        names_filter: Any = None,
        incl_bwd: bool = False,
        device: torch.device | str | None = None,
        remove_batch_dim: bool = False,
        cache: dict[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """A dictionary that every pass from now on fills."""
        kept, fwd, bwd = HookedModule.get_caching_hooks(
            self, names_filter, incl_bwd, device, remove_batch_dim, cache
        )
        for way, hooks in (("fwd", fwd), ("bwd", bwd)):
            for name, hook in hooks:
                HookedModule.add_hook(self, name, hook, way)
        return kept

    def _points(self, name: Place) -> list[HookPoint]:
        if isinstance(name, str):
            return [self.hook_dict[name]]
        return [point for known, point in self.hook_dict.items() if name(known)]


def _chosen(names: Any, name: str) -> bool:
    if names is None:
        return True
    if isinstance(names, str):
        return name == names
    return bool(names(name)) if callable(names) else name in names


def _tokens(value: Tensor, span: Span, axis: int) -> Tensor:
    """The chosen tokens of an activation; one alone keeps its axis, as TransformerLens has it."""
    if span is None or value.dim() < -axis:
        return value
    chosen: Any = [span] if isinstance(span, int) else span
    where: list[Any] = [slice(None)] * value.dim()
    where[axis] = slice(*chosen) if isinstance(chosen, tuple) else chosen
    return value[tuple(where)]
