"""Estimates of all nodes and edges of a batch of pairs, and the exact values of some edges.

Shape suffixes: p pairs, n tokens, h head, d model, s senders, r receivers' inputs, x edges.
"""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.analysis.attribution_patching.gradients import Gradient, Gradients, differentiable
from dtx.analysis.attribution_patching.spec import (
    EDGE_METHODS,
    NODE_METHODS,
    AttributionPatchingSpec,
)
from dtx.analysis.core.patching import PairRuns
from dtx.analysis.core.patching_spec import EDIT, Direction, Node, hook_of, name_of
from dtx.analysis.core.result import largest
from dtx.dt import paths
from dtx.dt.forward import run_from
from dtx.dt.model import DecisionTransformerModel
from dtx.pairs.pair_set import PairBatch

ALL_TOKENS = "all"
STEP = 1e-6
"""Share of the way from base to source over which the difference quotient is taken, in double precision."""


def draw_edges(every: list[paths.Edge], most: int, rng: np.random.Generator) -> list[paths.Edge]:
    """At most so many edges into each kind of input, drawn at random, in their order."""
    chosen: list[int] = []
    for kind in ("q", "k", "v", "mlp", "logits"):
        of_kind = [i for i, edge in enumerate(every) if edge.receiver.input == kind]
        chosen += rng.choice(of_kind, min(most, len(of_kind)), replace=False).tolist()
    return [every[i] for i in sorted(chosen)]


class Estimates:
    """The estimates of one batch of pairs."""

    def __init__(
        self,
        spec: AttributionPatchingSpec,
        model: DecisionTransformerModel,
        batch: PairBatch,
        gap: float,
    ):
        """Run both sides, then forward and backward.

        Args:
            spec: What is estimated; ``edges`` of 0 leaves edges out.
            model: Any.
            batch: Pairs of one shape.
            gap: Smallest difference between the runs at which rho means something.
        """
        self.spec, self.model, self.batch = spec, model, batch
        layers = range(model.cfg.n_layers)
        nodes = dict.fromkeys([Node.resid_pre, Node.z, *spec.nodes])
        hooks = [hook_of(layer, node.value) for layer in layers for node in nodes]
        wanted = {*hooks, *paths.output_hooks(model.cfg)}
        self.runs = PairRuns(model, batch, spec.direction, gap, wanted)
        # Each head's input is a copy of the stream, so fewer pairs than patches go at once.
        at_once = max(1, spec.at_once // model.cfg.n_heads)
        steps = (spec.steps, spec.most_steps)
        gradients = Gradients(model, self.runs, steps, spec.convergence, at_once)
        self.integration = gradients
        self.receivers = paths.receivers(model.cfg) if spec.edges else []
        inputs = list(dict.fromkeys(paths.input_hook(model.cfg, r) for r in self.receivers))
        read = list(dict.fromkeys([*hooks, *self._output_gradients(), *inputs]))
        with differentiable(model):
            with paths.split_inputs(model):
                at_base, over_inputs = gradients.at_base(read), gradients.over_inputs(read)
            own: Gradient = {}
            for layer in layers:
                for node in spec.nodes:
                    if hook_of(layer, node.value) not in own:
                        # The gradient at attn_out comes with that at z.
                        own |= gradients.over_own(layer, Node.z if node is Node.attn_out else node)
        self.gradients = dict(zip(NODE_METHODS, (at_base, over_inputs, own), strict=True))
        self.edges = paths.edges(model.cfg) if spec.edges else []
        self.edge_estimates = {
            method: self._edges(gradient)
            for method, gradient in zip(EDGE_METHODS, (at_base, over_inputs), strict=True)
        }

    def _output_gradients(self) -> list[str]:
        """Where the gradient at each sender's output is read, to check the sum of its edges."""
        layers = range(self.model.cfg.n_layers)
        return [paths.EMBEDDED, *(hook_of(i, x) for i in layers for x in ("attn_out", "mlp_out"))]

    def node(self, method: str, layer: int, node: Node) -> Tensor:
        """Estimated change of LD (p, n) by a node at each token; heads (p, n, h)."""
        name = hook_of(layer, node.value)
        change = (self.runs.source[name] - self.runs.base[name]) * self.gradients[method][name]
        summed = change.sum(-1)
        return summed.transpose(1, 2) if node is Node.pattern else summed

    def nodes(self) -> pd.DataFrame:
        """One row a pair, node and token, with the estimates."""
        p, n = self.batch.changed.shape
        row, token = np.divmod(np.arange(p * n), n)
        names, last = np.array(self.batch.names)[token], self.model.cfg.n_layers - 1
        tables = []
        for layer in range(self.model.cfg.n_layers):
            for node in self.spec.nodes:
                changes = {method: self.node(method, layer, node) for method in NODE_METHODS}
                name = hook_of(layer, node.value)
                differs = ((self.runs.source[name] - self.runs.base[name]).abs() > 0).any(-1)
                differs = differs.transpose(1, 2) if node is Node.pattern else differs
                for head in range(self.model.cfg.n_heads) if node.each_head else [-1]:
                    at = (slice(None), slice(None), head) if head >= 0 else ()
                    table = self.runs.about(row)
                    table["layer"], table["node"], table["head"] = layer, node.value, head
                    table["name"] = name_of(layer, node.value, None if head < 0 else head)
                    table["position"], table["token"] = token, names
                    # In the last layer all but the stream before it, keys and values count at the end alone.
                    reaches = layer < last or node in (Node.resid_pre, Node.k, Node.v)
                    table["open"] = differs[at].flatten().numpy() & (reaches | (token == n - 1))
                    for method, change in changes.items():
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
        for key, pairs in about.groupby(["edit", "kind", "reward_to_go"], sort=False):
            rows, span = pairs.index.to_numpy(copy=True), torch.from_numpy(self.runs.span)
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
        chosen = self.runs.measurable & self.batch.kind(EDIT)
        rho = np.full(len(self.batch), np.nan)
        if not chosen.any():
            return rho
        which = torch.from_numpy(np.flatnonzero(chosen))
        part = self.batch.where(chosen)
        context = part.corrupt if self.spec.direction is Direction.denoise else part.clean
        wrote = {edge.sender: source[edge.sender][which]}
        logits = paths.patched(self.model, context, wrote, [(edge, mask_pn[which])])
        changed = part.difference(logits).double().numpy() - self.runs.base_ld[chosen]
        rho[chosen] = changed / self.runs.span[chosen]
        return rho

    def errors(self) -> tuple[float | None, float | None, float | None]:
        """What is not as it must be, as shares of rho.

        How far integrated gradients have converged; how far sums of senders' edges are off, and the gradient
        from a difference quotient. None where no pair is measurable; the second also without edges.
        """
        which = torch.from_numpy(self.runs.measurable)
        span = torch.from_numpy(self.runs.span)[which].abs()
        if not len(span):
            return None, None, None
        edges = self._edge_sum(which, span) if self.edges else None
        return self.integration.convergence_error, edges, self._derivative(which, span)

    def _derivative(self, which: Tensor, span: Tensor) -> float:
        """The estimates of a layer's stream against a difference quotient of runs in double precision.

        The estimates of all tokens add up to the derivative of LD on the way from base to source; the
        quotient needs no gradient, only runs of a copy of the model a millionth of the way to either side.
        """
        model, errors = copy.deepcopy(self.model).double(), []
        rows = torch.nonzero(which).flatten()
        for layer in range(self.model.cfg.n_layers):
            name = hook_of(layer, Node.resid_pre.value)
            base = self.runs.base[name][rows].double()
            change = self.runs.source[name][rows].double() - base
            ends = [run_from(model, layer, base + h * change) for h in (STEP, -STEP)]
            ld = [self.batch.difference_of(logits, rows) for logits in ends]
            quotient = (ld[0] - ld[1]) / (2 * STEP)
            summed = self.node("attribution_patching", layer, Node.resid_pre)[rows].double().sum(1)
            errors.append(float(((quotient - summed).abs() / span).max()))
        return largest(errors)

    def _edge_sum(self, which: Tensor, span: Tensor) -> float:
        gradient = self.gradients["attribution_patching"]
        errors = []
        for sender, change_pnd in self._sender_changes().items():
            layer, kind = max(sender.layer, 0), {"embed": "resid_pre", "head": "attn_out"}
            at = gradient[hook_of(layer, kind.get(sender.kind, "mlp_out"))]
            own = [i for i, edge in enumerate(self.edges) if edge.sender == sender]
            difference = self.edge_estimates["eap"][own].sum(0) - (change_pnd * at).sum(-1)
            errors.append(float((difference.abs().amax(1)[which] / span).max()))
        return largest(errors)


def _columns(edges: list[paths.Edge]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "sender": [edge.sender.name for edge in edges],
            "receiver": [edge.receiver.name for edge in edges],
            "input": [edge.receiver.input for edge in edges],
        }
    )
