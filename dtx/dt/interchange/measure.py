"""How well the circuit of ``dt=interchange`` sits: interchange accuracy, and the effect of every head."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.dt import circuit as circuits
from dtx.dt.circuit import Circuit, CircuitEdge, CircuitNode, Restored
from dtx.dt.interchange.patch import run_interchanged, run_plain
from dtx.dt.interchange.routes import RouteBatch, RouteSampler, turn
from dtx.dt.interchange.spec import InterchangeSpec
from dtx.dt.model import DecisionTransformerModel
from dtx.env.memory import LEFT, RIGHT

TOLERANCE = 0.1
"""Of a rho: the model is trained, not compiled."""
CARRIES = 0.5
"""Share of a head's effect from which one of its inputs carries the variable (2026-11-29): two cannot both
carry more than half of it alone, unless either is enough, and then both are told."""
INPUTS = ("q", "k", "v")


@dataclass(frozen=True)
class Measurements:
    """The stage's numbers, the effect of each head and of its inputs, and the circuit that they speak for."""

    headline: dict[str, float | None]
    heads: pd.DataFrame
    inputs: pd.DataFrame
    circuit: Circuit


@torch.no_grad()
def measure(
    spec: InterchangeSpec, network: DecisionTransformerModel, sampler: RouteSampler
) -> Measurements:
    """Measure on held-out routes."""
    rng = np.random.default_rng([spec.seed, 1])
    batch = sampler.batch(rng, spec.pairs)
    rows = torch.arange(spec.pairs)
    logits, z = run_plain(network, batch)
    right = (logits.argmax(-1) == batch.target)[batch.real].float().mean().item()
    aligned = (spec.aligned.instruction, spec.aligned.reward_to_go)
    named = ("instruction", "reward_to_go")

    def interchanged(swapped: tuple[str, ...], heads: tuple[int, int]) -> float:
        """Accuracy when the variables named come from other windows, and all unaligned outputs as well."""
        source = [
            torch.from_numpy(rng.permutation(spec.pairs)) if name in swapped else rows
            for name in named
        ]
        rest = torch.from_numpy(rng.permutation(spec.pairs))
        sources = dict(zip(heads, source, strict=True))
        found = run_interchanged(network, batch, z, sources, rest).argmax(-1)
        wanted = turn(batch.instruction[source[0]], batch.side, batch.high[source[1]])
        return (found == wanted).float().mean().item()

    accuracy = {
        "instruction": interchanged(("instruction",), aligned),
        "reward_to_go": interchanged(("reward_to_go",), aligned),
        "both": interchanged(named, aligned),
        "rest": interchanged((), aligned),
    }
    # The control is a wrong hypothesis: the two heads exchanged. Chance is a half.
    wrong = interchanged(named, (aligned[1], aligned[0]))
    effects = _effects(spec, network, sampler)
    other = effects[~effects.aligned]
    headline = {
        "interchange/accuracy": min(accuracy.values()),
        "interchange/task_accuracy": right,
        "interchange/other_heads": float(other.rho.abs().max()),
        "interchange/aligned_heads": float(effects[effects.aligned].rho.min()),
        "interchange/pairs": float(spec.pairs),
        "interchange/distinct_inputs": float(_distinct(batch)),
        "interchange/control_accuracy": wrong,
        **{f"interchange/accuracy_{k}": v for k, v in accuracy.items()},
    }
    inputs = _inputs(spec, network, sampler)
    return Measurements(headline, effects, inputs, circuit_of(spec, inputs_that_carry(inputs)))


def _effects(
    spec: InterchangeSpec, network: DecisionTransformerModel, sampler: RouteSampler
) -> pd.DataFrame:
    """Mean restored logit difference of each head at all tokens, by flipped variable."""
    names = {"instruction": spec.aligned.instruction, "reward_to_go": spec.aligned.reward_to_go}
    rows = []
    for flip, aligned in names.items():
        clean, corrupt = _pair(spec, sampler, flip)
        last = clean.decision

        def difference(batch: RouteBatch, hooks: list, last: Tensor = last) -> Tensor:
            with network.hooks(fwd_hooks=hooks):
                logits = network(batch.context)[torch.arange(len(last)), last]
            return logits[:, LEFT] - logits[:, RIGHT]

        known: dict[str, Tensor] = {}

        def keep(value: Tensor, hook, known: dict = known) -> None:
            known[hook.name] = value

        hook_names = [f"blocks.{layer}.attn.hook_z" for layer in range(network.cfg.n_layers)]
        ld_clean = difference(clean, [(name, keep) for name in hook_names])
        ld_corrupt = difference(corrupt, [])
        for layer, name in enumerate(hook_names):
            for head in range(network.cfg.n_heads):

                def patch(value: Tensor, hook, head: int = head, known: dict = known) -> Tensor:
                    value = value.clone()
                    value[:, :, head] = known[hook.name][:, :, head]
                    return value

                patched = difference(corrupt, [(name, patch)])
                # One fraction of sums, not a mean of fractions: small gaps would make it anything.
                gap = ld_clean - ld_corrupt
                rho = ((patched - ld_corrupt) * gap).sum() / (gap * gap).sum()
                worst = ((patched - ld_corrupt) / gap.abs().mean()).abs().max()
                rows.append(
                    {
                        "flip": flip,
                        "layer": layer,
                        "head": head,
                        "aligned": layer == 0 and head == aligned,
                        "rho": rho.item(),
                        "largest": worst.item(),
                    }
                )
    return pd.DataFrame(rows)


def _inputs(
    spec: InterchangeSpec, network: DecisionTransformerModel, sampler: RouteSampler
) -> pd.DataFrame:
    """Mean rho of the queries, keys and values of the aligned heads at all tokens: rows flip, input, rho."""
    aligned = {"instruction": spec.aligned.instruction, "reward_to_go": spec.aligned.reward_to_go}
    hook_names = [f"blocks.0.attn.hook_{name}" for name in INPUTS]
    rows = []
    for flip, head in aligned.items():
        clean, corrupt = _pair(spec, sampler, flip)
        _, known = network.run_with_cache(clean.context, names_filter=hook_names)

        def difference(batch: RouteBatch, hooks: list) -> Tensor:
            at = torch.arange(len(batch.decision)), batch.decision
            with network.hooks(fwd_hooks=hooks):
                logits = network(batch.context)[at]
            return logits[:, LEFT] - logits[:, RIGHT]

        def patch(value: Tensor, hook, head: int = head, known=known) -> Tensor:
            value = value.clone()
            value[:, :, head] = known[hook.name][:, :, head]
            return value

        base = difference(corrupt, [])
        gap = difference(clean, []) - base
        for name, hook in zip(INPUTS, hook_names, strict=True):
            change = difference(corrupt, [(hook, patch)]) - base
            rho = ((change * gap).sum() / (gap * gap).sum()).item()
            rows.append({"flip": flip, "input": name, "rho": rho})
    return pd.DataFrame(rows)


def inputs_that_carry(inputs: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    """By variable: the inputs of its head that carry it, with their rho as far as it is known.

    Args:
        inputs: As the stage's table ``inputs`` has it.
    """
    found: dict[str, dict[str, float | None]] = {}
    for flip, rows in inputs.groupby("flip", sort=False):
        rho = dict(zip(rows["input"], rows["rho"], strict=True))
        alone = {name: value for name, value in rho.items() if value > CARRIES}
        # None alone: where it looks and what it reads only do it together.
        alone = alone or dict.fromkeys(("k", "v"), 0.0)
        found[str(flip)] = {
            name: 1.0 if abs(value - 1) <= TOLERANCE else None for name, value in alone.items()
        }
    return found


def _pair(spec: InterchangeSpec, sampler: RouteSampler, flip: str) -> tuple[RouteBatch, RouteBatch]:
    """The same held-out windows, and with one variable flipped."""
    pair = []
    for flipped in (False, True):
        batch = sampler.batch(np.random.default_rng([spec.seed, 2]), spec.pairs)
        context = batch.context.clone()
        if flipped and flip == "reward_to_go":
            middle = (spec.low[0] + spec.low[1]) / 2, (spec.high[0] + spec.high[1]) / 2
            other = torch.where(batch.high == 1, middle[0], middle[1])[:, None]
            context["reward_to_go"] = other.expand_as(context["reward_to_go"]).contiguous()
        if flipped and flip == "instruction":
            # The first state shows the other instruction before the same objects at the far end.
            seen, places = torch.as_tensor(context["observation"]), sampler.places
            layout = seen[:, 0] // places
            other = torch.tensor([3, 2, 1, 0])[layout]
            seen[:, 0] += (other - layout) * places
        values = {**vars(batch), "context": context}
        pair.append(RouteBatch(**values))
    return pair[0], pair[1]


def _distinct(batch: RouteBatch) -> int:
    """How many of the windows differ."""
    context = batch.context
    columns = [context[k].double() for k in ("observation", "action", "reward_to_go")]
    return len(torch.unique(torch.cat(columns, 1), dim=0))


def circuit_of(spec: InterchangeSpec, inputs: dict[str, dict[str, float | None]]) -> Circuit:
    """The declared circuit: two heads of the first block, at the decision's state.

    Args:
        inputs: By variable: the inputs by which its head gets it, which the model has learnt.
    """
    last, start = circuits.LAST_STATE, circuits.INSTRUCTION_STATE
    heads = {
        "instruction": CircuitNode("blocks.0.attn.hook_z", spec.aligned.instruction, last),
        "reward_to_go": CircuitNode("blocks.0.attn.hook_z", spec.aligned.reward_to_go, last),
    }
    places = {"instruction": start, "reward_to_go": circuits.ALL_REWARD_TO_GO}
    layers = range(spec.model.n_layers)
    restored = {}
    for name, head in heads.items():
        restored_nodes = [
            Restored(CircuitNode("hook_embed", None, places[name]), 1.0),
            Restored(CircuitNode("blocks.0.hook_resid_pre", None, places[name]), 1.0),
            Restored(head, 1.0),
            Restored(CircuitNode("blocks.0.hook_attn_out", None, last), 1.0),
        ]
        if name == "reward_to_go":  # which of the equal tokens it reads is its own choice
            hooks = ("hook_embed", "blocks.0.hook_resid_pre")
            restored_nodes += [
                Restored(CircuitNode(h, None, circuits.LAST_REWARD_TO_GO), None) for h in hooks
            ]
        for layer in layers:
            if layer:
                restored_nodes.append(
                    Restored(CircuitNode(f"blocks.{layer}.hook_resid_pre", None, last), 1.0)
                )
            # Where the parity is computed, and whether in one MLP or more, is learnt.
            restored_nodes.append(
                Restored(CircuitNode(f"blocks.{layer}.hook_mlp_out", None, last), None)
            )
            restored_nodes += [
                Restored(CircuitNode(f"blocks.{layer}.hook_resid_{x}", None, last), 1.0)
                for x in ("mid", "post")
            ]
        restored[name] = tuple(restored_nodes)
    at_end = [
        Restored(CircuitNode(hook, None, last), 1.0)
        for hook in ("hook_embed", *(f"blocks.{i}.hook_resid_{x}" for i in layers for x in _ORDER))
    ]
    open_mlps = [
        Restored(CircuitNode(f"blocks.{i}.hook_mlp_out", None, last), None) for i in layers
    ]
    # It does not pass through a head; the first block's attention may still look at it.
    restored["target"] = (*at_end, *open_mlps)
    mlps = [CircuitNode(f"blocks.{layer}.hook_mlp_out", None, last) for layer in layers]
    edges = [
        CircuitEdge(CircuitNode("hook_embed", None, places[name]), head, by, name, rho)
        for name, head in heads.items()
        for by, rho in inputs[name].items()
    ]
    logits = CircuitNode("unembed", None, last)
    edges += [CircuitEdge(head, mlp, "mlp", name) for name, head in heads.items() for mlp in mlps]
    edges += [
        CircuitEdge(CircuitNode("hook_embed", None, last), mlp, "mlp", "target") for mlp in mlps
    ]
    edges += [CircuitEdge(one, two, "mlp", "turn") for one, two in itertools.combinations(mlps, 2)]
    edges += [CircuitEdge(mlp, logits, "logits", "turn") for mlp in mlps]
    return Circuit(
        kind="interchange",
        variant={"inputs": {name: sorted(by) for name, by in inputs.items()}},
        n_layers=spec.model.n_layers,
        n_heads=spec.model.n_heads,
        nodes=tuple(heads.values()),
        edges=tuple(edges),
        restored=restored,
        neurons=(),
        logit_difference=None,
        tolerance=TOLERANCE,
        notes=(
            "Which MLPs compute the turn is learnt: any edge to, between or from them is right.",
            "Whether a head gets its variable by queries, keys or values was measured (table `inputs`).",
            "Known for the routine and its waits, reward-to-go within the trained ranges.",
        ),
    )


_ORDER = ("pre", "mid", "post")
