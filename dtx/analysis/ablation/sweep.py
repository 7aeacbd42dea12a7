"""Ablate all nodes of a layer at once on the batch axis, by every method, with random directions.

Letters: b window, r row of a forward pass (one node of one window), n token, d model, a action, u unit of a
hook (head, neuron; one of an output), w width of a unit, k random direction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.analysis.ablation.choice import choice_of
from dtx.analysis.ablation.data import Data
from dtx.analysis.ablation.nodes import AblatedNode, Ablator, hook_of, units
from dtx.analysis.ablation.spec import (
    EACH,
    ONE,
    AblatedTokens,
    AblationMethod,
    AblationSpec,
)
from dtx.analysis.core.windows import real_tokens
from dtx.dt.context import Context
from dtx.dt.forward import blocks_of
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.names import HEAD, NEURON
from dtx.progress import progress

New = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From windows (r,), draws (r,) and their value (r, n, u, w) to what the value becomes."""


class Ablations:
    """All ablations of one model.

    Args:
        spec: What is ablated and how.
        model: Possibly with hooks of its own, which stay in force.
        context: Windows. frame: One row a window: window, layout, target.
        nodes: That are ablated. data: For means and donors; None: nothing is asked of it.
        hooked: The model has hooks of its own.
        turns_b: (b,) side of the right turn; see :func:`dtx.analysis.ablation.choice.turn_signs`.

    Attributes:
        ld_b: The whole model's logit difference. choice: What it decides.
    """

    def __init__(
        self,
        spec: AblationSpec,
        model: DecisionTransformerModel,
        context: Context,
        frame: pd.DataFrame,
        nodes: Sequence[AblatedNode],
        data: Data | None,
        hooked: bool,
        turns_b: np.ndarray | None = None,
    ):
        self.spec, self.context, self.frame = spec, context, frame
        self.nodes, self.data = nodes, data
        mask = real_tokens(context, model.cfg)
        if spec.tokens is AblatedTokens.last:
            mask = mask & (torch.arange(mask.shape[1]) == mask.shape[1] - 1)
        self.ablator = Ablator(model, context, mask, spec.at_once, hooked)
        self.model, self.blocks = model, blocks_of(model)
        self.pair = (spec.contrast.pos.number, spec.contrast.neg.number)
        logits_ba = self.ablator.logits_ba
        self.ld_b = logits_ba[:, self.pair[0]] - logits_ba[:, self.pair[1]]
        self.choice = choice_of(self.ld_b.numpy(), frame, turns_b)
        self.sign_b = torch.from_numpy(self.choice.sign_b)

    def groups(self) -> dict[tuple[int, str], list[AblatedNode]]:
        """The nodes by layer and kind, which are ablated together."""
        groups: dict[tuple[int, str], list[AblatedNode]] = {}
        for node in self.nodes:
            groups.setdefault((node.layer, node.kind), []).append(node)
        return groups

    def run(self) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Ablate by every method, and push the same outputs in random directions.

        Returns:
            One row a method, node and window; means over windows, one row a method, node, target and donor;
            and one a method, node, target, way and random direction.
        """
        tables, draws, controls = [], [], []
        parts_of_all = len(self.spec.methods) * (len(self.groups()) + 1)
        with progress("ablation", parts_of_all, "parts") as bar:
            for method in self.spec.methods:
                parts = []
                for nodes, compared in self.compared(method):
                    part, of_donors = self._tables(method, nodes, compared)
                    parts.append(part)
                    draws.append(of_donors)
                    bar.advance(1, f"{method.value} {nodes[0].name}")
                table = pd.concat(parts, ignore_index=True)
                tables.append(table)
                controls.append(self.random(method, self._compared(table)))
                bar.advance(1, f"{method.value}, random directions")
        return tuple(pd.concat(parts, ignore_index=True) for parts in (tables, draws, controls))  # type: ignore[return-value]

    def compared(
        self, method: AblationMethod
    ) -> Iterator[tuple[list[AblatedNode], dict[str, Tensor]]]:
        """Yield the nodes of each layer and kind, and how their ablation compares with the whole model:
        ``change`` of LD towards the choice, ``kl`` and ``flip``, each (nodes, b, draws)."""
        for (layer, kind), nodes in self.groups().items():
            yield nodes, self._compared_with_whole(method, layer, kind, nodes)

    def _compared_with_whole(
        self, method: AblationMethod, layer: int, kind: str, nodes: list[AblatedNode]
    ) -> dict[str, Tensor]:
        draws = self.spec.donors if method is AblationMethod.resample else 1
        shape = (len(nodes), len(self.context), draws)
        unit = torch.tensor([node.unit for node in nodes])
        node, row, draw = (
            x.flatten() for x in torch.meshgrid(*map(torch.arange, shape), indexing="ij")
        )
        new = self.new(method, layer, kind)
        logits_ra = self.ablator.run(
            layer, kind, row, unit[node], lambda s, value: new(row[s], draw[s], value)
        )
        return {name: value.reshape(shape) for name, value in self._compare(logits_ra, row).items()}

    def _tables(
        self, method: AblationMethod, nodes: list[AblatedNode], compared: dict[str, Tensor]
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """One row a node and window, means over donors; one a node, target and donor, means over windows."""
        windows, (layer, kind) = len(self.context), (nodes[0].layer, nodes[0].kind)
        measured = {name: value.mean(-1).flatten().numpy() for name, value in compared.items()}
        table = self.frame.iloc[np.tile(np.arange(windows), len(nodes))].reset_index(drop=True)
        repeated = np.repeat(np.arange(len(nodes)), windows)
        table["ld"] = np.tile(self.ld_b.numpy(), len(nodes))
        table["method"], table["layer"], table["kind"] = method.value, layer, kind
        unit = np.array([node.unit for node in nodes])
        table["unit"] = unit[repeated]
        names = np.array([node.name for node in nodes])
        table["name"] = names[repeated]
        of_donors = self._by_target(compared["change"].swapaxes(1, 2), "donor")
        of_donors["name"], of_donors["unit"] = names[of_donors.node], unit[of_donors.node]
        of_donors = of_donors.assign(method=method.value, layer=layer, kind=kind)
        return table.assign(**measured), of_donors.drop(columns="node")

    def _by_target(self, change: Tensor, name: str) -> pd.DataFrame:
        """Means over the windows of a target of changes (nodes, draws, b): node, draw (``name``), target."""
        parts = []
        for group in self.choice.groups:
            mine = torch.from_numpy(self.choice.group_b == group)
            mean = change[..., mine].mean(-1).numpy()
            node, draw = np.indices(mean.shape)
            columns = {"node": node.ravel(), name: draw.ravel(), "change": mean.ravel()}
            parts.append(pd.DataFrame(columns).assign(target=group))
        return pd.concat(parts, ignore_index=True)

    def new(self, method: AblationMethod, layer: int, kind: str, data: Data | None = None) -> New:
        """What an output becomes: a function of windows (r,), draws (r,) and the value (r, n, u, w)."""
        name, data = hook_of(layer, kind), data or self.data
        if method is AblationMethod.zero:
            return lambda window, draw, value: torch.zeros_like(value)
        assert data is not None
        if method is AblationMethod.mean:
            mean_1nuw = units(data.mean(name)[None], kind)
            return lambda window, draw, value: mean_1nuw.expand_as(value)
        return lambda window, draw, value: units(data.donor(name, window, draw), kind)

    def _compare(self, logits_ra: Tensor, row: Tensor) -> dict[str, Tensor]:
        """change, kl and flip of each row against the whole model."""
        whole_ra = self.ablator.logits_ba[row]
        ld_r = logits_ra[:, self.pair[0]] - logits_ra[:, self.pair[1]]
        whole = whole_ra.log_softmax(-1)
        kl_r = (whole.exp() * (whole - logits_ra.log_softmax(-1))).sum(-1)
        return {
            "change": (ld_r - self.ld_b[row]) * self.sign_b[row],
            "kl": kl_r.clamp(min=0),
            "flip": (logits_ra.argmax(-1) != whole_ra.argmax(-1)).double(),
        }

    def _compared(self, table: pd.DataFrame) -> list[AblatedNode]:
        """Nodes that are held against random directions: all, but of neurons only the strongest."""
        neurons = table[table.kind == NEURON].groupby("name").change.mean().abs()
        strong = set(neurons.sort_values(ascending=False).index[: self.spec.shown])
        return [n for n in self.nodes if n.kind != NEURON or n.name in strong]

    def random(self, method: AblationMethod, nodes: list[AblatedNode]) -> pd.DataFrame:
        """One row a node, target, way and random direction, which is as long as what the ablation changes.

        A direction is the same in all windows, as most of what an ablation changes is; where the choice is by
        turns, half of them are another in every window, as what tells layouts apart is.
        """
        windows, count = len(self.context), self.spec.random_directions
        ways = (ONE, EACH) if self.choice.by_turns else (ONE,)
        count //= len(ways)
        width = self.model.cfg.d_model
        tables = []
        for i, node in enumerate(nodes):
            size_bn1 = self._moved(method, node).norm(dim=-1, keepdim=True)
            out = {HEAD: "attention", NEURON: "mlp"}.get(node.kind, node.kind)
            generator = torch.Generator().manual_seed((self.spec.seed * 10_007 + i) % 2**63)
            for way in ways:
                shape = (1 if way == ONE else windows, count, width)
                drawn = torch.randn(shape, generator=generator).expand(windows, count, width)
                towards = torch.nn.functional.normalize(drawn, dim=-1)
                row = torch.arange(windows).repeat_interleave(count)
                at = torch.arange(count).repeat(windows)

                def push(
                    s: slice, value: Tensor, size=size_bn1, towards=towards, row=row, at=at
                ) -> Tensor:
                    move = size[row[s]] * towards[row[s], at[s]][:, None, :]
                    return value + move.unsqueeze(2)

                logits_ra = self.ablator.run(node.layer, out, row, torch.zeros_like(row), push)
                change = self._compare(logits_ra, row)["change"].reshape(1, windows, count)
                table = self._by_target(change.swapaxes(1, 2), "direction").drop(columns="node")
                tables.append(table.assign(method=method.value, name=node.name, way=way))
        return pd.concat(tables, ignore_index=True)

    def _moved(self, method: AblationMethod, node: AblatedNode) -> Tensor:
        """(b, n, d) what an ablation adds to the residual stream (of the first donor)."""
        value = units(self.ablator.base[hook_of(node.layer, node.kind)], node.kind)
        rows = torch.arange(len(self.context))
        new = self.new(method, node.layer, node.kind)(rows, torch.zeros_like(rows), value)
        moved_bnw = (new - value)[:, :, node.unit]
        block = self.blocks[node.layer]
        if node.kind == HEAD:
            return moved_bnw @ block.attn.W_O[node.unit]
        return moved_bnw * block.mlp.W_out[node.unit] if node.kind == NEURON else moved_bnw
