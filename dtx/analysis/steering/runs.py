"""Many edits of the same windows, each computed from where it changes something on.

An edit of the last state alone is run for that token alone, for the keys and values of all others are those
of the unedited run; so a hundred vectors cost what a few whole runs do. Other edits run from their layer on.

Shape suffixes: e edit, b window, n token, m earlier token, d model, h head, k head width, a action.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dtx.analysis.steering.edits import ActivationEdit, mask, residual, shows
from dtx.analysis.steering.spec import Tokens
from dtx.analysis.steering.windows import GoalBatch, GoalWindows, asked
from dtx.dt.forward import blocks_of
from dtx.dt.layers import Block
from dtx.dt.model import DecisionTransformerModel

BASE = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_z", "hook_k", "hook_v",
        "hook_mlp_out")  # fmt: skip
"""Ends of the names of what is kept of unedited runs."""
DONOR = (residual(0), "hook_z", "hook_mlp_out")
"""And of runs that are asked for something else: what clamps go towards."""


class Runs:
    """Edited runs of windows; the unedited ones are computed once.

    Args:
        model: Without hooks.
        windows: All of one kind and split.
    """

    def __init__(self, model: DecisionTransformerModel, windows: GoalWindows):
        self.model, self.windows = model, windows
        blocks = [_Block(block) for block in blocks_of(model)]
        self._batches = [_Batch(model, blocks, batch) for batch in windows.batches]

    def __len__(self) -> int:
        """How many windows."""
        return len(self.windows)

    def log_p(self, edits: Sequence[ActivationEdit]) -> Tensor:
        """Log-probabilities (e, b, a) of the actions at the last state under each edit."""
        parts = []
        for batch in self._batches:
            final_ebd = torch.stack([points[-1] for points in batch.points(edits)])
            parts.append(self.model.read(final_ebd).log_softmax(-1))
        return torch.cat(parts, 1)

    def points(self, edits: Sequence[ActivationEdit]) -> list[list[Tensor]]:
        """For each edit the stream (b, d) at the last state: edited, and after every block from there on."""
        each = [batch.points(edits) for batch in self._batches]
        return [
            [torch.cat(point) for point in zip(*batches, strict=True)]
            for batches in zip(*each, strict=True)
        ]

    def asked(self, reward_to_go: float, layer: int) -> list[Tensor]:
        """The same points of the unedited runs that are asked for something, from a layer's input on."""
        each = [batch.asked(reward_to_go)[layer:] for batch in self._batches]
        return [torch.cat(point) for point in zip(*each, strict=True)]

    def unedited(self, layer: int) -> list[Tensor]:
        """The same points of the unedited runs as they are."""
        each = [batch.unedited[layer:] for batch in self._batches]
        return [torch.cat(point) for point in zip(*each, strict=True)]

    def edited(self, edit: ActivationEdit) -> Tensor:
        """Windows in which an edit changes something, (b,) bool."""
        return torch.cat([batch.where(edit).any(1) for batch in self._batches])

    @property
    def base(self) -> Tensor:
        """Unedited log-probabilities (b, a)."""
        return torch.cat([batch.base for batch in self.windows.batches])

    @property
    def wanted(self) -> Tensor:
        """What is wanted, probabilities (b, a)."""
        return torch.cat([batch.wanted for batch in self.windows.batches])

    def column(self, name: str) -> list:
        """A column of the windows' tables, (b,)."""
        return [value for batch in self.windows.batches for value in batch.table[name]]


class _Block:
    """A block's arithmetic without hooks, the three projections by one product."""

    def __init__(self, block: Block):
        self.block, attn = block, block.attn
        self.heads = attn.b_Q.shape
        weights = [getattr(attn, f"W_{name}") for name in "QKV"]
        self.weight = torch.cat([w.transpose(0, 1).flatten(1) for w in weights], 1).detach()
        biases = [getattr(attn, f"b_{name}").flatten() for name in "QKV"]
        self.bias = torch.cat(biases).detach()
        self.W_O, self.b_O = attn.W_O.flatten(0, 1).detach(), attn.b_O.detach()

    def project(self, x: Tensor) -> list[Tensor]:
        """Queries, keys and values (..., h, k) of (..., d)."""
        fused = torch.addmm(self.bias, x.flatten(0, -2), self.weight)
        return [
            part.unflatten(-1, self.heads) for part in fused.unflatten(0, x.shape[:-1]).chunk(3, -1)
        ]

    def output(self, z: Tensor) -> Tensor:
        """The sum of all heads' outputs (..., d) of their z (..., h, k)."""
        flat = z.flatten(-2)
        return torch.addmm(self.b_O, flat.flatten(0, -2), self.W_O).unflatten(0, flat.shape[:-1])

    def through(self, resid_bnd: Tensor, last: bool) -> Tensor:
        """The block's output, (b, n, d) or at the last token alone (b, 1, d)."""
        q, k, v = (x.transpose(1, 2) for x in self.project(self.block.ln1(resid_bnd)))
        if last:
            q, resid_bnd = q[:, :, -1:], resid_bnd[:, -1:]
        z = F.scaled_dot_product_attention(q, k, v, is_causal=not last).transpose(1, 2)
        mid_bnd = resid_bnd + self.output(z)
        return mid_bnd + self.block.mlp(self.block.ln2(mid_bnd))


class _Batch:
    """Windows of one length."""

    def __init__(self, model: DecisionTransformerModel, blocks: list[_Block], batch: GoalBatch):
        self.model, self.context, self.blocks = model, batch.context, blocks
        self.last = len(blocks) - 1
        with torch.no_grad():
            _, cache = model.run_with_cache(
                self.context, names_filter=lambda name: name.endswith(BASE)
            )
        self.cache: dict[str, Tensor] = dict(cache)
        self.unedited = self._points(self.cache)
        self._donors: dict[float, dict[str, Tensor]] = {}
        self._asked: dict[float, list[Tensor]] = {}
        self._where: dict[tuple[Tokens, int | None], Tensor] = {}

    def points(self, edits: Sequence[ActivationEdit]) -> list[list[Tensor]]:
        """See :meth:`Runs.points`."""
        found: dict[int, list[Tensor]] = {}
        alone: dict[int, list[int]] = {}
        for number, edit in enumerate(edits):
            at_last = edit.tokens is Tokens.last_state and edit.vector is not None
            if at_last and edit.hook == residual(edit.layer):
                alone.setdefault(edit.layer, []).append(number)
            else:
                found[number] = self._whole(edit)
        for layer, numbers in alone.items():
            added = [edits[i].alpha * self._vector(edits[i]) for i in numbers]
            old_bd = self.cache[residual(layer)][:, -1]
            where_eb1 = torch.stack([self.where(edits[i])[:, -1:] for i in numbers])
            stream = self._alone(layer, old_bd + where_eb1 * torch.stack(added)[:, None])
            for row, number in enumerate(numbers):
                found[number] = [point_ebd[row] for point_ebd in stream]
        return [found[number] for number in range(len(edits))]

    def where(self, edit: ActivationEdit) -> Tensor:
        """Where an edit is, (b, n) bool."""
        place = (edit.tokens, edit.only_if)
        if place not in self._where:
            where_bn = mask(self.context, edit.tokens)
            if edit.only_if is not None:
                where_bn = where_bn & shows(self.context, edit.only_if)[:, None]
            self._where[place] = where_bn
        return self._where[place]

    def asked(self, reward_to_go: float) -> list[Tensor]:
        """The stream (b, d) at the last state before every block and after the last, asked for something."""
        if reward_to_go not in self._asked:
            names = ("hook_resid_pre", f"blocks.{self.last}.hook_resid_post")
            context = asked(self.context, reward_to_go)
            _, cache = self.model.run_with_cache(context, names_filter=lambda n: n.endswith(names))
            self._asked[reward_to_go] = self._points(cache)
        return self._asked[reward_to_go]

    def _points(self, cache: dict[str, Tensor]) -> list[Tensor]:
        names = [residual(layer) for layer in range(self.last + 1)]
        return [cache[n][:, -1].clone() for n in (*names, f"blocks.{self.last}.hook_resid_post")]

    def _donor(self, value: float) -> dict[str, Tensor]:
        if value not in self._donors:
            context = asked(self.context, value)
            with torch.no_grad():
                _, cache = self.model.run_with_cache(
                    context, names_filter=lambda name: name.endswith(DONOR)
                )
            self._donors[value] = dict(cache)
        return self._donors[value]

    @staticmethod
    def _vector(edit: ActivationEdit) -> Tensor:
        assert edit.vector is not None
        return edit.vector

    def _change(self, edit: ActivationEdit) -> Tensor:
        """What an edit adds to the activation at its hook, (b, n, d) or (b, n, k)."""
        where_bn1 = self.where(edit).unsqueeze(-1)
        if edit.vector is not None:
            return where_bn1 * (edit.alpha * edit.vector)
        new, old = self._donor(edit.clamp)[edit.hook], self.cache[edit.hook]
        if edit.head is not None:
            new, old = new[:, :, edit.head], old[:, :, edit.head]
        change = new - old
        if edit.direction is not None:
            change = change.norm(dim=-1, keepdim=True) * edit.direction
        return where_bn1 * (edit.alpha * change)

    def _whole(self, edit: ActivationEdit) -> list[Tensor]:
        """The points of an edit of any tokens; of the last block only the last state matters."""
        layer, change = edit.layer, self._change(edit)
        block = self.blocks[layer].block
        if edit.hook == residual(layer):
            return self._from(layer, self.cache[edit.hook] + change)
        span = slice(-1, None) if layer == self.last else slice(None)
        if edit.hook.endswith("hook_mlp_out"):
            post_bnd = self.cache[f"blocks.{layer}.hook_resid_post"][:, span] + change[:, span]
        else:
            written = change[:, span] @ block.attn.W_O[edit.head]
            mid_bnd = self.cache[f"blocks.{layer}.hook_resid_mid"][:, span] + written
            post_bnd = mid_bnd + block.mlp(block.ln2(mid_bnd))
        return [self.unedited[layer], *self._from(layer + 1, post_bnd)]

    def _from(self, layer: int, resid_bnd: Tensor) -> list[Tensor]:
        points = [resid_bnd[:, -1]]
        for number in range(layer, self.last + 1):
            resid_bnd = self.blocks[number].through(resid_bnd, last=number == self.last)
            points.append(resid_bnd[:, -1])
        return points

    def _alone(self, layer: int, resid_ebd: Tensor) -> list[Tensor]:
        """The points (e, b, d) from a changed last state on; earlier tokens do not see it."""
        points = [resid_ebd]
        for number in range(layer, self.last + 1):
            plain = self.blocks[number]
            block = plain.block
            z = self._attend(number, *plain.project(block.ln1(resid_ebd)))
            mid_ebd = resid_ebd + plain.output(z)
            resid_ebd = mid_ebd + block.mlp(block.ln2(mid_ebd))
            points.append(resid_ebd)
        return points

    def _attend(self, layer: int, q_ebhk: Tensor, k_ebhk: Tensor, v_ebhk: Tensor) -> Tensor:
        """What the last state's heads read, (e, b, h, k): earlier tokens unedited, and itself."""
        k_bmhk, v_bmhk = (
            self.cache[f"blocks.{layer}.attn.hook_{name}"][:, :-1] for name in ("k", "v")
        )
        past_ebhm = torch.einsum("ebhk,bmhk->ebhm", q_ebhk, k_bmhk)
        own_ebh1 = (q_ebhk * k_ebhk).sum(-1, keepdim=True)
        scores = torch.cat([past_ebhm, own_ebh1], -1) / math.sqrt(q_ebhk.shape[-1])
        pattern = scores.softmax(-1)
        past_ebhk = torch.einsum("ebhm,bmhk->ebhk", pattern[..., :-1], v_bmhk)
        return past_ebhk + pattern[..., -1:] * v_ebhk
