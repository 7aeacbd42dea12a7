"""Ablate all nodes of a layer at once on the batch axis, by every method, with random directions.

Letters: b window, r row of a forward pass (one node of one window), n token, d model, a action, u unit of a
hook (head, neuron; one of an output), w width of a unit, k random direction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.analysis.ablation import NAME, Ablation, Method, Place
from dtx.analysis.ablation.data import Data, data_of
from dtx.analysis.ablation.nodes import HEAD, NEURON, Ablator, Node, hook_of, nodes_of, units
from dtx.analysis.core.data_windows import real_tokens
from dtx.analysis.core.inputs import distinct_inputs
from dtx.dt.context import Context
from dtx.dt.load import load_at
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.processing import blocks_of
from dtx.errors import UserError
from dtx.progress import progress
from dtx.statistics import bootstrap
from dtx.training.threads import one_thread

ALL = "all"
"""Of the column ``target``: windows of every reward-to-go together."""


@dataclass
class Results:
    """Tables and numbers of the analysis.

    Attributes:
        windows: One row a method, node and window: change (of the logit difference, positive towards the
            choice that the whole model makes), kl (nats, of the ablated policy from the whole one), flip
            (share of donors at which the greedy action changes).
        effects: Means by method, node and target with intervals, and random_95: the 95% quantile of what
            random directions bring; missing for neurons that are not shown.
        ranking: The same over all targets, the largest first, with random_node (what a node of the kind
            brings that is not beyond its random directions: their median) and needed.
        headline: ``ablation/*`` scalars.
    """

    windows: pd.DataFrame
    effects: pd.DataFrame
    ranking: pd.DataFrame
    headline: dict[str, float | None]


@torch.inference_mode()
def measure(stage: Ablation) -> Results:
    """Ablate everything that the stage asks for."""
    with one_thread():
        model = load_at(stage.dt, stage.checkpoint, stage.windows.env)
        context, frame = stage.windows.deciding(model)
        nodes = nodes_of(model, stage.neurons)
        held = list(_silenced(stage, model))
        with model.hooks(fwd_hooks=[node.silence() for node in held]):
            data = data_of(stage, model, context)
            return _Measure(stage, model, context, frame, nodes, data, bool(held)).results()


def _silenced(stage: Ablation, model: DecisionTransformerModel) -> Iterator[Node]:
    cfg = model.cfg
    for name in stage.silent:
        match = NAME.fullmatch(name)
        assert match  # check() has seen to it
        node = Node.parse(match)
        if node.layer >= cfg.n_layers or node.unit >= node.count(cfg):
            raise UserError(f"analysis.ablation.silent: {stage.dt.label} has no node {name}")
        yield node
    if stage.neurons and max(stage.neurons) >= cfg.n_layers:
        raise UserError(
            f"analysis.ablation.neurons: {stage.dt.label} has layers 0 to {cfg.n_layers - 1}, "
            f"not {max(stage.neurons)}"
        )


class _Measure:
    """All ablations of one model."""

    def __init__(
        self,
        stage: Ablation,
        model: DecisionTransformerModel,
        context: Context,
        frame: pd.DataFrame,
        nodes: list[Node],
        data: Data,
        held: bool,
    ):
        self.stage, self.context, self.frame = stage, context, frame
        self.nodes, self.data = nodes, data
        mask = real_tokens(context, model.cfg)
        if stage.tokens is Place.last:
            mask = mask & (torch.arange(mask.shape[1]) == mask.shape[1] - 1)
        self.ablator = Ablator(model, context, mask, stage.chunk, held)
        self.model, self.blocks = model, blocks_of(model)
        pair = (stage.contrast.pos.number, stage.contrast.neg.number)
        self.pair = pair
        logits_ba = self.ablator.logits_ba
        self.ld_b = logits_ba[:, pair[0]] - logits_ba[:, pair[1]]
        self.named = bool(frame.layout.ne("").all())

    def results(self) -> Results:
        """Ablate, then control, then check."""
        stage = self.stage
        groups = {(node.layer, node.kind): [] for node in self.nodes}
        for node in self.nodes:
            groups[node.layer, node.kind].append(node)
        tables, controls = [], []
        with progress("ablation", len(stage.methods) * (len(groups) + 1), "parts") as bar:
            for method in stage.methods:
                found = []
                for (layer, kind), mine in groups.items():
                    found.append(self._ablated(method, layer, kind, mine))
                    bar.advance(1, f"{method.value} {mine[0].name}")
                table = pd.concat(found, ignore_index=True)
                tables.append(table)
                controls.append(self._random(method, self._compared(table)))
                bar.advance(1, f"{method.value}, random directions")
        windows = pd.concat(tables, ignore_index=True)
        control = pd.concat(controls, ignore_index=True)
        effects, ranking = self._effects(windows, control)
        headline = self._headline(windows, ranking)
        return Results(windows, effects, ranking, headline)

    def _ablated(self, method: Method, layer: int, kind: str, nodes: list[Node]) -> pd.DataFrame:
        """One row a node and window, means over donors."""
        windows = len(self.context)
        draws = self.stage.donors if method is Method.resample else 1
        unit = torch.tensor([node.unit for node in nodes])
        node, row, draw = (
            x.flatten()
            for x in torch.meshgrid(
                torch.arange(len(nodes)), torch.arange(windows), torch.arange(draws), indexing="ij"
            )
        )
        new = self._new(method, layer, kind)
        logits_ra = self.ablator.run(
            layer, kind, row, unit[node], lambda s, value: new(row[s], draw[s], value)
        )
        shape = (len(nodes), windows, draws)
        measured = {
            name: value.reshape(shape).mean(-1).flatten().numpy()
            for name, value in self._compare(logits_ra, row).items()
        }
        table = self.frame.iloc[np.tile(np.arange(windows), len(nodes))].reset_index(drop=True)
        repeated = np.repeat(np.arange(len(nodes)), windows)
        table["ld"] = np.tile(self.ld_b.numpy(), len(nodes))
        table["method"], table["layer"], table["kind"] = method.value, layer, kind
        table["unit"] = unit.numpy()[repeated]
        table["name"] = np.array([node.name for node in nodes])[repeated]
        return table.assign(**measured)

    def _new(self, method: Method, layer: int, kind: str, data: Data | None = None) -> Any:
        """What an output becomes: a function of windows (r,), draws (r,) and the value (r, n, u, w)."""
        name, data = hook_of(layer, kind), data or self.data
        if method is Method.zero:
            return lambda window, draw, value: torch.zeros_like(value)
        if method is Method.mean:
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
            "change": (ld_r - self.ld_b[row]) * self.ld_b[row].sign(),
            "kl": kl_r.clamp(min=0),
            "flip": (logits_ra.argmax(-1) != whole_ra.argmax(-1)).double(),
        }

    def _compared(self, table: pd.DataFrame) -> list[Node]:
        """Nodes that are held against random directions: all, but of neurons only the strongest."""
        neurons = table[table.kind == NEURON].groupby("name").change.mean().abs()
        strong = set(neurons.sort_values(ascending=False).index[: self.stage.shown])
        return [n for n in self.nodes if n.kind != NEURON or n.name in strong]

    def _random(self, method: Method, nodes: list[Node]) -> pd.DataFrame:
        """One row a node, window and random direction, which is as long as what the ablation changes."""
        windows, count = len(self.context), self.stage.random_directions
        width = self.model.cfg.d_model
        tables = []
        for i, node in enumerate(nodes):
            generator = torch.Generator().manual_seed(self.stage.seed * 10_007 + i)
            direction_kd = torch.randn(count, width, generator=generator)
            direction_kd = torch.nn.functional.normalize(direction_kd, dim=-1)
            row = torch.arange(windows).repeat_interleave(count)
            at = torch.arange(count).repeat(windows)
            size_bn1 = self._moved(method, node).norm(dim=-1, keepdim=True)
            out = {HEAD: "attention", NEURON: "mlp"}.get(node.kind, node.kind)

            def push(s: slice, value: Tensor, size=size_bn1, towards=direction_kd, row=row, at=at):
                return value + (size[row[s]] * towards[at[s]][:, None, :]).unsqueeze(2)

            logits_ra = self.ablator.run(node.layer, out, row, torch.zeros_like(row), push)
            change = self._compare(logits_ra, row)["change"].numpy()
            table = pd.DataFrame({"window": row.numpy(), "direction": at.numpy(), "change": change})
            tables.append(table.assign(method=method.value, name=node.name))
        return pd.concat(tables, ignore_index=True)

    def _moved(self, method: Method, node: Node) -> Tensor:
        """(b, n, d) what an ablation adds to the residual stream (of the first donor)."""
        value = units(self.ablator.base[hook_of(node.layer, node.kind)], node.kind)
        rows = torch.arange(len(self.context))
        new = self._new(method, node.layer, node.kind)(rows, torch.zeros_like(rows), value)
        moved_bnw = (new - value)[:, :, node.unit]
        block = self.blocks[node.layer]
        if node.kind == HEAD:
            return moved_bnw @ block.attn.W_O[node.unit]
        return moved_bnw * block.mlp.W_out[node.unit] if node.kind == NEURON else moved_bnw

    def _effects(
        self, windows: pd.DataFrame, control: pd.DataFrame
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Means with intervals by target, and over all with what is needed."""
        target = windows.target.map(lambda t: f"{t:g}")
        parts = [windows.assign(target=ALL)]
        if self.named:
            parts.append(windows.assign(target=target))
        asked = self.frame.set_index("window").target.map(lambda t: f"{t:g}")
        random = [control.assign(target=ALL)]
        if self.named:
            random.append(control.assign(target=control.window.map(asked)))
        mean = pd.concat(random).groupby(["method", "name", "target", "direction"]).change.mean()
        limit = mean.abs().groupby(["method", "name", "target"]).quantile(0.95)
        keys = ["method", "kind", "layer", "unit", "name", "target"]
        rows = []
        for key, mine in pd.concat(parts).groupby(keys, sort=False):  # type: ignore[misc]
            means = []
            for name in ("change", "kl"):
                values = mine[name].to_numpy()
                means += [values.mean(), *bootstrap(values, self.stage.resamples, self.stage.seed)]
            random_95 = limit.get((key[0], key[4], key[5]), np.nan)
            rows.append((*key, *means, mine.flip.mean(), len(mine), random_95))  # type: ignore[misc]
        columns = [*keys, "change", "low", "high", "kl", "kl_low", "kl_high", "flip", "windows"]
        effects = pd.DataFrame(rows, columns=[*columns, "random_95"])
        ranking = effects[effects.target == ALL].drop(columns="target")
        return effects, self._needed(ranking.reset_index(drop=True))

    def _needed(self, ranking: pd.DataFrame) -> pd.DataFrame:
        """A node is needed if it does more than its random directions and than random nodes of its kind."""
        size = ranking.change.abs()
        beyond = (size > ranking.random_95) & (size > self.stage.tolerance)
        by = [ranking.method, ranking.kind]
        null = size.where(~beyond).groupby(by).transform("median")
        ranking["random_node"] = null.fillna(0)  # every node of the kind is beyond its directions
        ranking["needed"] = beyond & (size > ranking.random_node)
        order = {method.value: i for i, method in enumerate(self.stage.methods)}
        ranking = ranking.assign(size=size, order=ranking.method.map(order))
        ranking = ranking.sort_values(["order", "size"], ascending=[True, False], kind="stable")
        return ranking.drop(columns=["size", "order"]).reset_index(drop=True)

    # --- exact checks ---

    def _headline(self, windows: pd.DataFrame, ranking: pd.DataFrame) -> dict[str, float | None]:
        numbers: dict[str, float | None] = {
            "ablation/self_change": self._self_change(),
            "ablation/identity_error": self._together(),
            "ablation/ld": float(self.ld_b.abs().mean()),
            "ablation/distinct_inputs": float(distinct_inputs(self.context)),
            "ablation/distinct_reference": float(distinct_inputs(self.data.context)),
            "ablation/token_for_token": float(self.data.aligned),
        }
        for method, mine in ranking.groupby("method", sort=False):
            top = mine.iloc[0]
            numbers[f"ablation/{method}_needed"] = float(mine.needed.sum())
            numbers[f"ablation/{method}_largest"] = float(top.change)
            numbers[f"ablation/{method}_largest_low"] = float(top.low)
            numbers[f"ablation/{method}_largest_high"] = float(top.high)
            numbers[f"ablation/{method}_largest_random_95"] = float(top.random_95)
        return numbers

    def _self_change(self) -> float:
        """Largest change by resampling every node of every window from itself."""
        worst, windows = 0.0, torch.arange(len(self.context))
        shape = (len(windows), 1, self.context.shape[1])
        own = Data(
            cache=self.ablator.base,
            window_bdn=windows[:, None, None].expand(shape),
            token_bdn=torch.arange(shape[2]).expand(shape),
            mean_nqm=torch.zeros(0),
            context=self.context,
            aligned=True,
        )
        for layer, kind in {(node.layer, node.kind): None for node in self.nodes}:
            mine = [n.unit for n in self.nodes if (n.layer, n.kind) == (layer, kind)]
            row, unit = (
                windows.repeat(len(mine)),
                torch.tensor(mine).repeat_interleave(len(windows)),
            )
            new = self._new(Method.resample, layer, kind, own)
            logits_ra = self.ablator.run(
                layer,
                kind,
                row,
                unit,
                lambda s, v, f=new, r=row: f(r[s], torch.zeros_like(r[s]), v),
            )
            change = (logits_ra - self.ablator.logits_ba[row]).abs().max().item()
            worst = max(worst, change)
        return worst

    def _together(self) -> float:
        """Largest difference of logits between ablating all units of a component and its output.

        Means and donors of an output are those of its units through the output's weights, so heads together
        must do what the attention's output does, and neurons what the MLP's does; for zero the output
        becomes its bias.
        """
        worst, row = 0.0, torch.arange(len(self.context))
        draw, every = torch.zeros_like(row), torch.full_like(row, -1)
        for method in self.stage.methods:
            for layer, block in enumerate(self.blocks):
                for kind, out, bias in (
                    (HEAD, "attention", block.attn.b_O),
                    (NEURON, "mlp", block.mlp.b_out),
                ):
                    new, whole = self._new(method, layer, kind), self._new(method, layer, out)
                    parts_ra = self.ablator.run(
                        layer, kind, row, every, lambda s, v, f=new: f(row[s], draw[s], v)
                    )
                    extra = bias if method is Method.zero else torch.zeros(())
                    whole_ra = self.ablator.run(
                        layer,
                        out,
                        row,
                        every,
                        lambda s, v, f=whole, e=extra: f(row[s], draw[s], v) + e,
                    )
                    worst = max(worst, (parts_ra - whole_ra).abs().max().item())
        return worst
