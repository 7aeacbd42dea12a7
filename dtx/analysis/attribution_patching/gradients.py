"""Gradients of the logit difference (LD) in the base run of pairs, and in runs between base and source.

Shape suffixes: b runs of a forward pass, p pairs, n tokens, d model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dtx.analysis.core.patching import PairRuns
from dtx.analysis.core.patching_spec import EDIT, Node, hook_of
from dtx.analysis.core.result import largest
from dtx.dt.forward import Hook, run_from
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.paths import EMBEDDED

Gradient = dict[str, Tensor]
"""By hook: d LD / d activation, in the activation's own shape."""
Run = Callable[[Tensor, Tensor], tuple[Gradient, Tensor]]
"""Runs of pairs (b,) at shares (b,) of the way from base to source: gradients (b, ...) and LD (b,)."""


class Gradients:
    """Gradients for the pairs of a batch.

    Integrated gradients are means over runs between base and source, by the midpoint rule. Times
    (source - base) they add to the difference between the two ends (Sundararajan et al., 2017); a trained
    model can switch within a hundredth of the way, so the steps are doubled for pairs where they do not.

    Attributes:
        most_used: Most steps that any pair took.
    """

    def __init__(
        self,
        model: DecisionTransformerModel,
        runs: PairRuns,
        steps: tuple[int, int],
        tolerance: float,
        at_once: int,
    ):
        """Nothing is computed yet.

        Args:
            model: Any.
            runs: Both runs, with ``resid_pre`` of every layer among their activations.
            steps: Runs between base and source at first, and at most.
            tolerance: Deviation of a sum, as a share of rho, from which on steps are doubled.
            at_once: Runs in one forward and backward pass.
        """
        self.model, self.runs, self.at_once = model, runs, at_once
        self.steps, self.tolerance = steps, tolerance
        self.most_used = 0
        self._errors: list[float] = []

    @property
    def convergence_error(self) -> float | None:
        """Largest deviation of such a sum from the difference, as a share of rho; None before the first.

        Steps are doubled until it is small, so that it says whether they converged, not whether they are
        right.
        """
        return largest(self._errors) if self._errors else None

    def at_base(self, hooks: Sequence[str]) -> Gradient:
        """In the base run: one forward and one backward pass for all hooks."""
        rows = torch.arange(len(self.runs.batch))
        return self._mean(partial(self._over_inputs, hooks), rows, torch.zeros(1))[0]

    def over_inputs(self, hooks: Sequence[str]) -> Gradient:
        """Mean over runs whose embedding lies between base and source; ``hooks`` hold the embedding."""
        return self._integrated(EMBEDDED, partial(self._over_inputs, hooks))

    def over_own(self, layer: int, node: Node) -> Gradient:
        """Mean over runs in which a node's activation, at all tokens and heads, lies between the two.

        Of ``z`` come the gradients of ``attn_out`` as well: it is linear in z, so both lie between together.
        """
        name = hook_of(layer, node.value)
        if node is Node.resid_post and layer + 1 < self.model.cfg.n_layers:
            following = hook_of(layer + 1, Node.resid_pre.value)  # is the same activation
            return {name: self.over_own(layer + 1, Node.resid_pre)[following]}
        return self._integrated(name, partial(self._over_own, layer, node))

    def _integrated(self, name: str, run: Run) -> Gradient:
        """The mean along the way of the activation ``name``, in as many steps as each pair needs."""
        rows, steps = torch.arange(len(self.runs.batch)), self.steps[0]
        gradient, ends = self._mean(run, rows, torch.tensor([0.0, 1.0]))
        difference_p = (ends[:, 1] - ends[:, 0]).double()
        change = self.runs.source[name] - self.runs.base[name]
        span_p = torch.from_numpy(self.runs.span).abs()
        # Elsewhere rho is missing, or it is a control, which the first steps are good enough for.
        checked_p = torch.from_numpy(self.runs.measurable & self.runs.batch.kind(EDIT))
        while len(rows):
            shares = (torch.arange(steps) + 0.5) / steps
            means, _ = self._mean(run, rows, shares)
            for hook, mean in means.items():
                gradient[hook][rows] = mean
            sum_p = (change[rows] * means[name]).double().flatten(1).sum(1)
            error_p = (sum_p - difference_p[rows]).abs() / span_p[rows]
            error_p[~checked_p[rows]] = 0.0
            self.most_used = max(self.most_used, steps)
            steps *= 2
            again = error_p > self.tolerance
            if steps > self.steps[1] or not again.any():
                break
            settled = float(error_p[~again].max()) if (~again).any() else 0.0
            self._errors.append(settled)
            rows = rows[again]
        if checked_p.any():
            self._errors.append(float(error_p.max()))
        return gradient

    def _mean(self, run: Run, rows: Tensor, shares: Tensor) -> tuple[Gradient, Tensor]:
        """Gradients (rows, ...), mean over shares of the way, and LD (rows, shares)."""
        count = len(shares)
        place = torch.arange(len(rows) * count) // count
        along = shares.repeat(len(rows))
        total: Gradient = {}
        differences = []
        for begin in range(0, len(place), self.at_once):
            here = place[begin : begin + self.at_once]
            gradient, difference = run(rows[here], along[begin : begin + self.at_once])
            differences.append(difference)
            for name, value in gradient.items():
                if name not in total:
                    total[name] = value.new_zeros(len(rows), *value.shape[1:])
                total[name].index_add_(0, here, value)
        return {k: v / count for k, v in total.items()}, torch.cat(differences).view(-1, count)

    def _between(self, name: str, rows: Tensor, shares: Tensor) -> Tensor:
        base, source = self.runs.base[name][rows], self.runs.source[name][rows]
        weight = shares.to(base).view(-1, *[1] * (base.ndim - 1))
        return torch.lerp(base, source, weight).requires_grad_()

    def _over_inputs(
        self, hooks: Sequence[str], rows: Tensor, shares: Tensor
    ) -> tuple[Gradient, Tensor]:
        kept, keep = _keeper(hooks)
        resid_bnd = self._between(EMBEDDED, rows, shares)
        logits_ba = run_from(self.model, 0, resid_bnd, keep, last_token_only=False)
        return self._backward(logits_ba, rows, kept)

    def _over_own(
        self, layer: int, node: Node, rows: Tensor, shares: Tensor
    ) -> tuple[Gradient, Tensor]:
        name = hook_of(layer, node.value)
        leaf = self._between(name, rows, shares)
        if node is Node.resid_pre:
            return self._backward(run_from(self.model, layer, leaf), rows, {name: leaf})
        kept, keep = _keeper([hook_of(layer, "attn_out")] if node is Node.z else [])
        resid_bnd = self.runs.base[hook_of(layer, "resid_pre")][rows]
        hooks = [(name, lambda value, hook: leaf), *keep]
        logits_ba = run_from(self.model, layer, resid_bnd, hooks)
        return self._backward(logits_ba, rows, {name: leaf, **kept})

    def _backward(
        self, logits_ba: Tensor, rows: Tensor, kept: dict[str, Tensor]
    ) -> tuple[Gradient, Tensor]:
        batch, place = self.runs.batch, torch.arange(len(rows))
        difference = logits_ba[place, batch.positive[rows]] - logits_ba[place, batch.negative[rows]]
        gradients = torch.autograd.grad(difference.sum(), list(kept.values()))
        return dict(zip(kept, gradients, strict=True)), difference.detach()


@contextmanager
def differentiable(model: DecisionTransformerModel) -> Iterator[None]:
    """Gradients of activations, and none of parameters."""
    wanted = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    model.requires_grad_(False)
    try:
        with torch.enable_grad():
            yield
    finally:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(wanted[name])


def _keeper(hooks: Sequence[str]) -> tuple[dict[str, Tensor], list[Hook]]:
    """A place for activations, and the hooks that put them there."""
    kept: dict[str, Tensor] = {}

    def keep(value: Tensor, hook: Any) -> None:
        kept[hook.name] = value

    return kept, [(name, keep) for name in hooks]
