"""Estimates of all nodes and edges of all pairs, and the exact values beside them.

Shape suffixes: p pairs, n tokens, h head, d model, s senders, r receivers' inputs, x edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.analysis.activation_patching import ActivationPatching
from dtx.analysis.activation_patching.compute import HEADS, name_of
from dtx.analysis.activation_patching.compute import measure as measure_exactly
from dtx.analysis.attribution_patching import EDGE_METHODS, NODE_METHODS
from dtx.analysis.attribution_patching.agreement import agreement
from dtx.analysis.attribution_patching.gradients import (
    Gradient,
    Gradients,
    differentiable,
    hook_of,
)
from dtx.analysis.core.pair_runs import PairRuns
from dtx.dt import paths
from dtx.pairs.pair_set import PairBatch, PairSet
from dtx.training.threads import one_thread

if TYPE_CHECKING:
    from dtx.analysis.attribution_patching import AttributionPatching
    from dtx.dt.model import DecisionTransformerModel

ALL_TOKENS = "all"


@dataclass
class Found:
    """What was estimated.

    Attributes:
        tables: ``nodes`` and ``edges`` (one row a pair and node or edge, with ``exact`` and every estimate),
            ``estimated_edges`` (means over pairs of all edges at each token), ``agreement``, ``runs``.
        identity_error: Largest deviation of an integrated gradient's sum from the whole difference, in rho.
        edge_sum_error: The same of the sum of a sender's edges from its node.
        null_change: Largest estimated change of LD within a null pair.
        most_steps: Most steps of integrated gradients that any pair took.
    """

    tables: dict[str, pd.DataFrame]
    identity_error: float
    edge_sum_error: float
    null_change: float
    most_steps: int


def measure(stage: AttributionPatching, model: DecisionTransformerModel, pairs: PairSet) -> Found:
    """Estimate, patch exactly, compare."""
    rng = np.random.default_rng([stage.seed, 1])
    drawn = draw_edges(paths.edges(model.cfg), stage.edges, rng)
    parts: dict[str, list[pd.DataFrame]] = {
        name: [] for name in ("nodes", "edges", "estimated_edges", "runs")
    }
    errors = []
    with one_thread(), torch.no_grad():
        for batch in pairs.batches(model):
            estimates = Estimates(stage, model, batch, pairs.min_ld_gap)
            parts["nodes"].append(estimates.nodes())
            parts["runs"].append(estimates.runs.table())
            if stage.edges:
                parts["edges"].append(estimates.exact_edges(drawn, rng))
                parts["estimated_edges"].append(estimates.mean_edges())
            errors.append(estimates.errors())
    tables = {name: pd.concat(found, ignore_index=True) for name, found in parts.items() if found}
    tables["nodes"] = _with_exact(stage, model, pairs, tables["nodes"])
    changes = [
        table.loc[table["kind"] == "null", [f"{m}_change" for m in methods]].abs().to_numpy()
        for name, methods in (("nodes", NODE_METHODS), ("edges", EDGE_METHODS))
        if (table := tables.get(name)) is not None
    ]
    for name in ("nodes", "edges"):
        if name in tables:
            table = tables[name]
            dropped = [c for c in table.columns if c.endswith("_change")]
            tables[name] = table[table["kind"] != "null"].drop(columns=dropped)
    tables["agreement"] = agreement(tables, stage.top, stage.resamples, stage.seed)
    worst = pd.DataFrame(errors).max()
    null = max((float(c.max()) for c in changes if c.size), default=0.0)
    checks = {name: float(worst[name]) for name in ("identity", "edge_sum", "steps")}
    return Found(tables, checks["identity"], checks["edge_sum"], null, int(checks["steps"]))


def draw_edges(every: list[paths.Edge], most: int, rng: np.random.Generator) -> list[paths.Edge]:
    """At most so many edges into each kind of input, drawn at random, in their order."""
    chosen: list[int] = []
    for kind in ("q", "k", "v", "mlp", "logits"):
        mine = [i for i, edge in enumerate(every) if edge.receiver.input == kind]
        chosen += rng.choice(mine, min(most, len(mine)), replace=False).tolist()
    return [every[i] for i in sorted(chosen)]


class Estimates:
    """The estimates of one batch of pairs."""

    def __init__(
        self,
        stage: AttributionPatching,
        model: DecisionTransformerModel,
        batch: PairBatch,
        gap: float,
    ):
        """Run both sides, then forward and backward; ``stage.edges`` of 0 leaves edges out."""
        self.stage, self.model, self.batch = stage, model, batch
        layers = range(model.cfg.n_layers)
        kinds = dict.fromkeys(["resid_pre", "z", *(node.value for node in stage.nodes)])
        hooks = [hook_of(layer, kind) for layer in layers for kind in kinds]
        self.runs = PairRuns(
            model, batch, stage.direction, gap, {*hooks, *paths.output_hooks(model.cfg)}
        )
        # Each head's input is a copy of the stream, so fewer pairs than patches go at once.
        at_once = max(1, stage.windows // model.cfg.n_heads)
        steps = (stage.steps, stage.most_steps)
        gradients = Gradients(model, self.runs, steps, stage.tolerance, at_once)
        self.integration = gradients
        self.receivers = paths.receivers(model.cfg) if stage.edges else []
        inputs = list(dict.fromkeys(paths.input_hook(model.cfg, r) for r in self.receivers))
        wanted = list(dict.fromkeys([*hooks, *self._output_gradients(), *inputs]))
        with differentiable(model):
            with paths.split_inputs(model):
                at_base, over_inputs = gradients.at_base(wanted), gradients.over_inputs(wanted)
            own: Gradient = {}
            for layer in layers:
                for kind in (node.value for node in stage.nodes):
                    if hook_of(layer, kind) not in own:
                        # attn_out comes with z.
                        own |= gradients.over_own(layer, "z" if kind == "attn_out" else kind)
        self.gradients = dict(zip(NODE_METHODS, (at_base, over_inputs, own), strict=True))
        self.edges = paths.edges(model.cfg) if stage.edges else []
        self.edge_estimates = {
            method: self._edges(gradient)
            for method, gradient in zip(EDGE_METHODS, (at_base, over_inputs), strict=True)
        }

    def _output_gradients(self) -> list[str]:
        """Where the gradient at each sender's output is read, to check the sum of its edges."""
        layers = range(self.model.cfg.n_layers)
        return [paths.EMBEDDED, *(hook_of(i, x) for i in layers for x in ("attn_out", "mlp_out"))]

    def node(self, method: str, layer: int, kind: str) -> Tensor:
        """Estimated change of LD (p, n) by a node at each token; heads (p, n, h)."""
        name = hook_of(layer, kind)
        change = (self.runs.source[name] - self.runs.base[name]) * self.gradients[method][name]
        summed = change.sum(-1)
        return summed.transpose(1, 2) if kind == "pattern" else summed

    def nodes(self) -> pd.DataFrame:
        """One row a pair, node and token, with the estimates."""
        p, n = self.batch.changed.shape
        row, token = np.divmod(np.arange(p * n), n)
        names, last = np.array(self.batch.names)[token], self.model.cfg.n_layers - 1
        tables = []
        for layer in range(self.model.cfg.n_layers):
            for kind in (node.value for node in self.stage.nodes):
                found = {method: self.node(method, layer, kind) for method in NODE_METHODS}
                name = hook_of(layer, kind)
                differs = (self.runs.source[name] - self.runs.base[name]).abs() > 0
                differs = differs.any(-1)
                differs = differs.transpose(1, 2) if kind == "pattern" else differs
                for head in range(self.model.cfg.n_heads) if kind in HEADS else [-1]:
                    at = (slice(None), slice(None), head) if head >= 0 else ()
                    table = self.runs.about(row)
                    table["layer"], table["node"], table["head"] = layer, kind, head
                    table["name"] = name_of(layer, kind, None if head < 0 else head)
                    table["position"], table["token"] = token, names
                    # In the last layer all but the stream before it, keys and values count at the end alone.
                    reaches = layer < last or kind in ("resid_pre", "k", "v")
                    table["open"] = differs[at].flatten().numpy() & (reaches | (token == n - 1))
                    for method, change in found.items():
                        self._add(table, method, row, change[at].flatten())
                    tables.append(table)
        return pd.concat(tables, ignore_index=True)

    def _add(self, table: pd.DataFrame, method: str, row: np.ndarray, change: Tensor) -> None:
        """Columns of a method: ``METHOD`` in units of rho, and ``METHOD_change`` of LD."""
        result = self.runs.result(row, self.runs.base_ld[row] + change.double().numpy())
        table[method], table[f"{method}_change"] = result["rho"], result["change"]

    def _edges(self, gradient: Gradient) -> Tensor:
        """Estimated change of LD (x, p, n) by each edge at each token."""
        if not self.edges:
            return torch.zeros(0, *self.batch.changed.shape)
        changes = self._sender_changes()
        change_spnd = torch.stack(list(changes.values()))
        reads = []
        for receiver in self.receivers:
            value = gradient[paths.input_hook(self.model.cfg, receiver)]
            reads.append(value if receiver.head is None else value[:, :, receiver.head])
        every_srpn = torch.einsum("spnd,rpnd->srpn", change_spnd, torch.stack(reads))
        sender = {s: i for i, s in enumerate(changes)}
        receiver = {r: i for i, r in enumerate(self.receivers)}
        return every_srpn[
            [sender[e.sender] for e in self.edges], [receiver[e.receiver] for e in self.edges]
        ]

    def _sender_changes(self) -> dict[paths.Sender, Tensor]:
        source, base = (
            paths.outputs(self.model, cache) for cache in (self.runs.source, self.runs.base)
        )
        return {sender: source[sender] - base[sender] for sender in source}

    def mean_edges(self) -> pd.DataFrame:
        """Means over pairs of every edge's estimates, at each token and at all together."""
        columns = _columns(self.edges)
        tables = []
        about = self.batch.table[["edit", "kind", "reward_to_go"]]
        about = about[self.runs.measurable]
        for key, mine in about.groupby(["edit", "kind", "reward_to_go"], sort=False):
            rows, span = mine.index.to_numpy(copy=True), torch.from_numpy(self.runs.span)
            means = {
                method: (change_xpn[:, rows] / span[rows, None]).mean(1)
                for method, change_xpn in self.edge_estimates.items()
            }
            for place, token in enumerate([*self.batch.names, ALL_TOKENS]):
                at = slice(None) if token == ALL_TOKENS else slice(place, place + 1)
                table = columns.assign(token=token, pairs=len(rows))
                table["edit"], table["kind"], table["reward_to_go"] = key  # type: ignore[misc]
                for method, mean_xn in means.items():
                    table[method] = mean_xn[:, at].sum(1).numpy()
                tables.append(table[(table[list(EDGE_METHODS)] != 0).any(axis=1)])
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

    def exact_edges(self, drawn: list[paths.Edge], rng: np.random.Generator) -> pd.DataFrame:
        """Edges with ``exact``, each at all tokens together and at one that matters, drawn at random."""
        source = paths.outputs(self.model, self.runs.source)
        changes = self._sender_changes()
        row, place = np.arange(len(self.batch)), {edge: i for i, edge in enumerate(self.edges)}
        tables = []
        for edge in drawn:
            differs = (changes[edge.sender] != 0).any(-1)
            n = differs.shape[1]
            at = [i for i in range(n) if paths.matters(self.model.cfg, edge, i, n)]
            at = [i for i in at if differs[:, i].any()]
            if not at:
                continue
            only = int(rng.choice(at))
            for token, where in ((ALL_TOKENS, at), (self.batch.names[only], [only])):
                mask = torch.zeros_like(differs)
                mask[:, where] = True
                table = self.runs.about(row).assign(token=token)
                for column, value in _columns([edge]).iloc[0].items():
                    table[str(column)] = value
                table["open"] = (differs & mask).any(1).numpy()
                table["exact"] = self._exact_edge(edge, source, mask)
                for method, change_xpn in self.edge_estimates.items():
                    self._add(table, method, row, (change_xpn[place[edge]] * mask).sum(1))
                tables.append(table)
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

    def _exact_edge(
        self, edge: paths.Edge, source: dict[paths.Sender, Tensor], mask_pn: Tensor
    ) -> np.ndarray:
        """rho (p,) of the edits' pairs; a donor's estimates are compared with those."""
        mine = self.runs.measurable & self.batch.kind("edit")
        rho = np.full(len(self.batch), np.nan)
        if not mine.any():
            return rho
        which = torch.from_numpy(np.flatnonzero(mine))
        part = self.batch.where(mine)
        context = part.corrupt if self.stage.direction.value == "denoise" else part.clean
        wrote = {edge.sender: source[edge.sender][which]}
        logits = paths.patched(self.model, context, wrote, [(edge, mask_pn[which])])
        changed = part.difference(logits).double().numpy() - self.runs.base_ld[mine]
        rho[mine] = changed / self.runs.span[mine]
        return rho

    def errors(self) -> dict[str, float]:
        """How far the exact identities are off, as shares of rho; none where no pair is measurable."""
        which = torch.from_numpy(self.runs.measurable)
        span = torch.from_numpy(self.runs.span)[which].abs()
        if not len(span):
            return {"identity": np.nan, "edge_sum": np.nan, "steps": self.integration.most_used}
        return {
            "identity": self.integration.identity_error,
            "edge_sum": self._edge_sum(which, span),
            "steps": self.integration.most_used,
        }

    def _edge_sum(self, which: Tensor, span: Tensor) -> float:
        if not self.edges:
            return np.nan
        gradient = self.gradients["attribution_patching"]
        worst = 0.0
        for sender, change_pnd in self._sender_changes().items():
            layer, kind = max(sender.layer, 0), {"embed": "resid_pre", "head": "attn_out"}
            at = gradient[hook_of(layer, kind.get(sender.kind, "mlp_out"))]
            own = [i for i, edge in enumerate(self.edges) if edge.sender == sender]
            difference = self.edge_estimates["eap"][own].sum(0) - (change_pnd * at).sum(-1)
            worst = max(worst, float((difference.abs().amax(1)[which] / span).max()))
        return worst


def _columns(edges: list[paths.Edge]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "sender": [edge.sender.name for edge in edges],
            "receiver": [edge.receiver.name for edge in edges],
            "input": [edge.receiver.input for edge in edges],
        }
    )


def _with_exact(
    stage: AttributionPatching, model: DecisionTransformerModel, pairs: PairSet, nodes: pd.DataFrame
) -> pd.DataFrame:
    """The rows with ``exact``, rho of the patch itself."""
    same = {
        name: getattr(stage, name)
        for name in (
            ["dt", "checkpoint", "pairs", "direction", "nodes", "tolerance", "seed", "windows"]
        )
    }
    exact = measure_exactly(ActivationPatching(**same, resamples=1), model, pairs).tables["patches"]
    by = ["pair", "name", "position"]
    exact = exact[[*by, "rho"]].rename(columns={"rho": "exact"})
    return nodes.merge(exact, on=by, how="left", validate="one_to_one")


def headline(found: Found) -> dict[str, float | None]:
    """Numbers at the top: the exact checks, and each method's agreement over all edits and kinds."""
    numbers: dict[str, float | None] = {
        "identity_error": found.identity_error,
        "edge_sum_error": found.edge_sum_error,
        "null_change": found.null_change,
    }
    runs, table = found.tables["runs"], found.tables["agreement"]
    edited = runs[runs["kind"] == "edit"]
    numbers["distinct_inputs"] = len(edited.drop_duplicates(["ld_clean", "ld_corrupt", "edit"]))
    numbers["most_steps"] = found.most_steps
    numbers["n_missing"] = float((~edited["measurable"]).sum())
    pooled = table[(table["edit"] == "all") & (table["group"] == "all")]
    names = {
        "r": "r", "low": "r_low", "high": "r_high", "random_high": "random_r_high",
        "donor_r": "donor_r", "spearman": "spearman", "sign": "sign_agreement",
        "error": "mean_absolute_error", "overlap": "top_overlap",
    }  # fmt: skip
    for row in pooled.to_dict("records"):
        for column, name in names.items():
            numbers[f"{row['method']}_{name}"] = row[column]
    return {f"attribution_patching/{name}": value for name, value in numbers.items()}
