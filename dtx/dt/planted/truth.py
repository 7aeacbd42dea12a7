"""What is known about a planted model: nodes, edges, and what patching each one restores."""

from __future__ import annotations

import itertools

from dtx.dt.circuit import (
    ALL_REWARD_TO_GO,
    INSTRUCTION_STATE,
    LAST_REWARD_TO_GO,
    LAST_STATE,
    Circuit,
    CircuitEdge,
    CircuitNode,
    Neuron,
    Restored,
)
from dtx.dt.planted.spec import PlantedSpec

NEURONS = tuple(itertools.product((1, -1), repeat=3))
"""Signs of instruction (key), target (key on the left) and reward-to-go (high) of the deciding neurons."""
TURN_SIZE = 20.0
"""What a deciding neuron writes: this much on left, as much less on right, or the reverse."""
TOLERANCES = {"exact": 1e-4, "layer_norm": 1e-3, "superposed": 5e-3}


def circuit(spec: PlantedSpec) -> Circuit:
    """The ground truth of a variant."""
    nodes, edges = _graph(spec)
    kinds = [k for k in ("layer_norm", "superposed") if _is(spec, k)] or ["exact"]
    return Circuit(
        kind="planted",
        variant={
            "layer_norm": spec.layer_norm,
            "superposed": spec.dimensions is not None,
            "rotation": spec.rotation,
            "backup_head": spec.backup_head,
            "negative_head": spec.negative_head,
            "distractor_heads": [list(s) for s in spec.free_heads()[: spec.distractor_heads]],
        },
        n_layers=spec.n_layers,
        n_heads=spec.n_heads,
        nodes=nodes,
        edges=edges,
        restored={
            "instruction": _instruction(spec),
            "target": _target(spec),
            "reward_to_go": _reward_to_go(spec),
        },
        neurons=tuple(
            Neuron(
                layer=spec.deciding_layer,
                neuron=i,
                instruction=signs[0],
                target=signs[1],
                high=signs[2],
                writes="left" if signs[0] * signs[1] * signs[2] > 0 else "right",
            )
            for i, signs in enumerate(NEURONS)
        ),
        logit_difference=2 * TURN_SIZE * (1 - spec.negative_head),
        tolerance=max(TOLERANCES[k] for k in kinds),
        notes=_notes(spec),
    )


def _is(spec: PlantedSpec, kind: str) -> bool:
    return spec.dimensions is not None if kind == "superposed" else spec.layer_norm


def _z(layer: int, at: str = LAST_STATE) -> CircuitNode:
    return CircuitNode(f"blocks.{layer}.attn.hook_z", 0, at)


def _mlp(layer: int) -> CircuitNode:
    return CircuitNode(f"blocks.{layer}.hook_mlp_out", None, LAST_STATE)


def _graph(spec: PlantedSpec) -> tuple[tuple[CircuitNode, ...], tuple[CircuitEdge, ...]]:
    decides = _mlp(spec.deciding_layer)
    start, asked, last = (
        CircuitNode("hook_embed", None, at)
        for at in (INSTRUCTION_STATE, LAST_REWARD_TO_GO, LAST_STATE)
    )
    logits = CircuitNode("unembed", None, LAST_STATE)
    nodes = [start, asked, last, _z(0), _mlp(0), _z(1), decides]
    edges = [
        CircuitEdge(asked, _z(0), "v", "reward_to_go"),
        CircuitEdge(_z(0), _mlp(0), "mlp", "reward_to_go"),
        CircuitEdge(_mlp(0), decides, "mlp", "reward_to_go"),
        CircuitEdge(start, _z(1), "v", "instruction"),
        CircuitEdge(_z(1), decides, "mlp", "instruction"),
        CircuitEdge(last, decides, "mlp", "target"),
        CircuitEdge(decides, logits, "logits", "turn"),
        # What decides where heads look. The position embedding is added behind hook_embed.
        CircuitEdge(CircuitNode("hook_pos_embed", None, LAST_REWARD_TO_GO), _z(0), "k", "steers"),
        CircuitEdge(start, _z(1), "k", "steers"),
    ]
    if spec.backup_head:
        nodes += [_mlp(1), _z(2)]
        edges += [
            CircuitEdge(_z(1), _mlp(1), "mlp", "steers"),
            CircuitEdge(_mlp(1), _z(2), "q", "steers"),
            CircuitEdge(start, _z(2), "k", "steers"),
            # Silent as long as the main head speaks.
            CircuitEdge(start, _z(2), "v", "backup"),
            CircuitEdge(_z(2), decides, "mlp", "backup"),
        ]
    if spec.negative_head:
        negative = _z(spec.deciding_layer + 1)
        nodes.append(negative)
        edges += [
            CircuitEdge(decides, negative, "v", "turn"),
            CircuitEdge(negative, logits, "logits", "turn"),
        ]
    return tuple(nodes), tuple(edges)


def _after(spec: PlantedSpec, since: str) -> list[Restored]:
    """Residual points at the last state from ``LAYER.mid`` on, and the deciding MLP: all restored."""
    points = [f"{layer}.{x}" for layer in range(spec.n_layers) for x in ("pre", "mid", "post")]
    nodes = []
    for point in points[points.index(since) :]:
        layer, x = point.split(".")
        nodes.append(CircuitNode(f"blocks.{layer}.hook_resid_{x}", None, LAST_STATE))
    return [Restored(node, 1.0) for node in [*nodes, _mlp(spec.deciding_layer)]]


def _negative(spec: PlantedSpec) -> list[Restored]:
    """The negative head alone takes a clean turn's share away from a corrupt one."""
    share = spec.negative_head
    if not share:
        return []
    layer = spec.deciding_layer + 1
    rho = -share / (1 - share)
    out = CircuitNode(f"blocks.{layer}.hook_attn_out", None, LAST_STATE)
    return [Restored(_z(layer), rho), Restored(out, rho)]


def _instruction(spec: PlantedSpec) -> tuple[Restored, ...]:
    hooks = ("hook_embed", "blocks.0.hook_resid_pre", "blocks.0.hook_resid_mid")
    hooks += ("blocks.0.hook_resid_post", "blocks.1.hook_resid_pre")
    restored_nodes = [Restored(CircuitNode(hook, None, INSTRUCTION_STATE), 1.0) for hook in hooks]
    restored_nodes += [Restored(_z(1), 1.0)]
    restored_nodes += [Restored(CircuitNode("blocks.1.hook_attn_out", None, LAST_STATE), 1.0)]
    return (*restored_nodes, *_after(spec, "1.mid"), *_negative(spec))


def _target(spec: PlantedSpec) -> tuple[Restored, ...]:
    embedded = Restored(CircuitNode("hook_embed", None, LAST_STATE), 1.0)
    return (embedded, *_after(spec, "0.pre"), *_negative(spec))


def _reward_to_go(spec: PlantedSpec) -> tuple[Restored, ...]:
    restored_nodes = [
        Restored(CircuitNode(hook, None, at), 1.0)
        for hook in ("hook_embed", "blocks.0.hook_resid_pre")
        for at in (LAST_REWARD_TO_GO, ALL_REWARD_TO_GO)
    ]
    restored_nodes += [Restored(_z(0), 1.0)]
    restored_nodes += [Restored(CircuitNode("blocks.0.hook_attn_out", None, LAST_STATE), 1.0)]
    restored_nodes += [Restored(_mlp(0), 1.0)]
    return (*restored_nodes, *_after(spec, "0.mid"), *_negative(spec))


def _notes(spec: PlantedSpec) -> tuple[str, ...]:
    notes = [
        "Known at the decision square of the routine; flips of one variable, reward-to-go at all tokens.",
        "Direct attribution of left - right lies in the deciding MLP alone (and the negative head).",
    ]
    if spec.backup_head:
        notes.append(
            "The backup head (2, 0) is silent unless the main one (1, 0) is; then, under zero or mean "
            "ablation of the main head, it restores the whole logit difference."
        )
    if spec.distractor_heads:
        notes.append(
            "Distractor heads attend, carry the instruction, and write to dimensions that nothing reads: "
            "their effect is 0, or what LayerNorm's scale lets through."
        )
    if spec.dimensions is not None:
        notes.append("Features overlap, so what is exact without superposition holds to tolerance.")
    return tuple(notes)
