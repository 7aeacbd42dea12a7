"""How edits are found: each method's candidates, one for each place in the model.

Shape suffixes: b window, n token, d model, h head, a action.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from dtx.analysis.core.channels import cell_names
from dtx.analysis.steering.edits import ActivationEdit, activations, mask, residual
from dtx.analysis.steering.runs import Runs
from dtx.analysis.steering.spec import Goal, Site, SteeringMethod, SteeringSpec, Tokens
from dtx.analysis.steering.windows import CHANGE, KEEP, GoalWindows, towards
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.names import head_name, mlp_name

EMBED = residual(0)


def candidates(
    spec: SteeringSpec, model: DecisionTransformerModel, goal: Goal, windows: GoalWindows
) -> Iterator[tuple[SteeringMethod, ActivationEdit]]:
    """All edits of the methods asked for, at size 1.

    Edits of layers or reward-to-go tokens that the model does not have are left out.
    """
    makers = {
        SteeringMethod.activation_addition: _additions,
        SteeringMethod.embedding_arithmetic: _arithmetic,
        SteeringMethod.reward_to_go_clamp: _clamps,
        SteeringMethod.optimised: _optimised,
    }
    for method in spec.methods:
        for edit in makers[method](spec, model, goal, windows):
            yield method, edit


def _usable(model: DecisionTransformerModel, site: Site) -> bool:
    """Whether the model has that layer and those tokens."""
    there = model.cfg.reward_to_go or "reward_to_go" not in site.tokens.value
    return there and site.layer < model.cfg.n_layers


def _name(site: Site) -> str:
    return f"before L{site.layer}, {_words(site.tokens)}"


def _words(tokens: Tokens) -> str:
    return tokens.value.replace("_", " ").replace("reward to go", "R").replace("state", "S")


def _additions(
    spec: SteeringSpec, model: DecisionTransformerModel, goal: Goal, windows: GoalWindows
) -> Iterator[ActivationEdit]:
    there = towards(windows)
    if not len(there):  # the goal does not say what to go towards
        return
    for site in spec.sites:
        if not _usable(model, site):
            continue
        hook = residual(site.layer)
        own = _mean(model, windows.part(CHANGE, held_out=False), hook, site.tokens)
        vector = _mean(model, there, hook, site.tokens) - own
        yield ActivationEdit(_name(site), hook, site.tokens, vector=vector)


def _mean(
    model: DecisionTransformerModel, windows: GoalWindows, hook: str, tokens: Tokens
) -> Tensor:
    """(d,) mean over windows and tokens."""
    parts = [
        activations(model, batch.context, hook)[mask(batch.context, tokens)]
        for batch in windows.batches
    ]
    return torch.cat(parts).mean(0)


def _arithmetic(
    spec: SteeringSpec, model: DecisionTransformerModel, goal: Goal, windows: GoalWindows
) -> Iterator[ActivationEdit]:
    entries = {name: i for i, name in enumerate(cell_names())}
    for name, wanted in spec.arithmetic.items():
        rows = model.embed.W_S
        vector = torch.zeros(model.cfg.d_model)
        for cell, times in wanted.cells.items():
            vector = vector + times * rows[entries[cell]]
        if wanted.reward_to_go:
            if model.embed.W_R is None:
                continue
            vector = vector + wanted.reward_to_go * model.embed.W_R[0]
        if not model.cfg.reward_to_go and "reward_to_go" in wanted.tokens.value:
            continue
        words = f"{name.replace('_', ' ')}, {_words(wanted.tokens)}"
        yield ActivationEdit(words, EMBED, wanted.tokens, vector=vector)


def _clamps(
    spec: SteeringSpec, model: DecisionTransformerModel, goal: Goal, windows: GoalWindows
) -> Iterator[ActivationEdit]:
    if not model.cfg.reward_to_go:
        return
    value = spec.high if goal.like is None else goal.like
    sites = [ActivationEdit("R tokens", EMBED, Tokens.reward_to_go, clamp=value)]
    for layer in range(model.cfg.n_layers if spec.clamp_parts else 0):
        z = f"blocks.{layer}.attn.hook_z"
        sites += [
            ActivationEdit(head_name(layer, head), z, Tokens.all, head=head, clamp=value)
            for head in range(model.cfg.n_heads)
        ]
        sites.append(
            ActivationEdit(mlp_name(layer), f"blocks.{layer}.hook_mlp_out", Tokens.all, clamp=value)
        )
    yield from sites
    if goal.only_if is None:
        return
    entry = cell_names().index(goal.only_if)
    for site in sites:
        yield dataclasses.replace(site, name=f"{site.name} if {goal.only_if}", only_if=entry)


def _optimised(
    spec: SteeringSpec, model: DecisionTransformerModel, goal: Goal, windows: GoalWindows
) -> Iterator[ActivationEdit]:
    for site in spec.descent.sites:
        if _usable(model, site):
            yield ActivationEdit(
                _name(site),
                residual(site.layer),
                site.tokens,
                vector=descend(spec, model, windows, site),
            )


@torch.enable_grad()
def descend(
    spec: SteeringSpec, model: DecisionTransformerModel, windows: GoalWindows, site: Site
) -> Tensor:
    """The vector (d,) that gradient descent finds on the training windows.

    Loss: cross-entropy to what is wanted + ``keep`` KL(unsteered || steered) where nothing may change +
    ``penalty`` times the vector's squared norm, in units of the activations' there.
    """
    how, hook = spec.descent, residual(site.layer)
    change, keep = (windows.part(kind, held_out=False) for kind in (CHANGE, KEEP))
    keep = keep.every(max(1, round(len(keep) / how.kept)))
    with torch.no_grad():
        here = [
            activations(model, b.context, hook)[mask(b.context, site.tokens)]
            for b in change.batches
        ]
    scale = float(torch.cat(here).pow(2).mean().sqrt())
    unit_d = torch.zeros(model.cfg.d_model, requires_grad=True)
    adam = _Adam(how.learning_rate)
    changing, kept = Runs(model, change), Runs(model, keep)
    wanted, base = changing.wanted, kept.base
    for _ in range(how.steps):
        edit = ActivationEdit("", hook, site.tokens, vector=scale * unit_d)
        loss = how.penalty * unit_d.pow(2).mean()
        loss = loss - (wanted * changing.log_p([edit])[0]).sum(-1).mean()
        loss = loss + how.keep * divergence(base, kept.log_p([edit])[0]).mean()
        (gradient_d,) = torch.autograd.grad(loss, unit_d)
        adam.step(unit_d, gradient_d)
    return (scale * unit_d).detach()


class _Adam:
    """Adam (Kingma and Ba, 2015) of one vector. To import torch's takes longer than the descent."""

    def __init__(self, learning_rate: float, betas: tuple[float, float] = (0.9, 0.999)):
        self.learning_rate, self.betas, self.steps = learning_rate, betas, 0
        self.first = self.second = torch.zeros(())

    def step(self, x: Tensor, gradient: Tensor) -> None:
        """Change ``x`` in place."""
        one, two = self.betas
        self.steps += 1
        self.first = one * self.first + (1 - one) * gradient
        self.second = two * self.second + (1 - two) * gradient**2
        first = self.first / (1 - one**self.steps)
        second = self.second / (1 - two**self.steps)
        with torch.no_grad():
            x -= self.learning_rate * first / (second.sqrt() + 1e-8)


def divergence(base: Tensor, steered: Tensor) -> Tensor:
    """KL(base || steered) in nats of log-probabilities (..., a)."""
    return (base.exp() * (base - steered)).sum(-1)


def random_like(
    edit: ActivationEdit, model: DecisionTransformerModel, generator: torch.Generator
) -> ActivationEdit:
    """The control: a random direction of the same norm at the same place."""
    width = model.cfg.d_model if edit.head is None else model.cfg.d_head
    unit = torch.randn(width, generator=generator)
    unit = unit / unit.norm()
    if edit.vector is not None:
        return dataclasses.replace(edit, vector=edit.vector.norm() * unit)
    return dataclasses.replace(edit, direction=unit)
