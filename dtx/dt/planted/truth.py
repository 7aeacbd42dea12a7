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
    reward_to_go_of,
    state_of,
)
from dtx.dt.planted.spec import Paths, PlantedSpec

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
            "relays": [list(steps) for steps in spec.paths.relays],
            "redundant_heads": spec.paths.redundant_heads,
            "mean_reward_to_go": spec.paths.mean_reward_to_go,
            "silent_heads": [list(spec.silent_slot)] if spec.paths.silent_head else [],
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


def _z(layer: int, at: str = LAST_STATE, head: int = 0) -> CircuitNode:
    return CircuitNode(f"blocks.{layer}.attn.hook_z", head, at)


def _mlp(layer: int) -> CircuitNode:
    return CircuitNode(f"blocks.{layer}.hook_mlp_out", None, LAST_STATE)


def _embedded(at: str) -> CircuitNode:
    return CircuitNode("hook_embed", None, at)


def _place(at: str) -> CircuitNode:
    """The position embedding, which is added behind ``hook_embed``."""
    return CircuitNode("hook_pos_embed", None, at)


Graph = tuple[list[CircuitNode], list[CircuitEdge]]


def _graph(spec: PlantedSpec) -> tuple[tuple[CircuitNode, ...], tuple[CircuitEdge, ...]]:
    decides, last = _mlp(spec.deciding_layer), _embedded(LAST_STATE)
    start = _embedded(INSTRUCTION_STATE)
    asked = ALL_REWARD_TO_GO if spec.paths.mean_reward_to_go else LAST_REWARD_TO_GO
    logits = CircuitNode("unembed", None, LAST_STATE)
    share = spec.negative_head
    moves, moving = _moves(spec)
    nodes = [start, _embedded(asked), last, _z(0), _mlp(0), *moves, decides]
    edges = [
        CircuitEdge(_embedded(asked), _z(0), "v", "reward_to_go"),
        CircuitEdge(_z(0), _mlp(0), "mlp", "reward_to_go"),
        CircuitEdge(_mlp(0), decides, "mlp", "reward_to_go"),
        *moving,
        CircuitEdge(last, decides, "mlp", "target"),
        CircuitEdge(decides, logits, "logits", "turn", 1 / (1 - share)),
        # What decides where heads look.
        CircuitEdge(_place(asked), _z(0), "k", "steers"),
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
    if share:
        negative = _z(spec.deciding_layer + 1)
        nodes.append(negative)
        edges += [
            CircuitEdge(decides, negative, "v", "turn", -share / (1 - share)),
            CircuitEdge(negative, logits, "logits", "turn", -share / (1 - share)),
        ]
    return tuple(nodes), tuple(edges)


def _moves(spec: PlantedSpec) -> Graph:
    """Heads that bring the instruction from where it is shown to the deciding MLP, with their edges."""
    start, decides = _embedded(INSTRUCTION_STATE), _mlp(spec.deciding_layer)
    if spec.paths.redundant_heads:
        heads, once = [_z(1, head=head) for head in (0, 1)], _mlp(1)
        edges = [CircuitEdge(once, decides, "mlp", "instruction")]
        for head in heads:
            edges += [
                CircuitEdge(start, head, "v", "instruction", 0.5),
                CircuitEdge(head, once, "mlp", "instruction", 0.5),
                CircuitEdge(start, head, "k", "steers"),
            ]
        return [*heads, once], edges
    nodes, edges, senders = [], [], [start]
    for stop, places in enumerate([*_stops(spec), [LAST_STATE]]):
        heads = [_z(1 + stop, at) for at in places]
        # What goes from one of several tokens alike to one of several is so small a part of the whole.
        rho = 1 / (len(senders) * len(heads))
        edges += [CircuitEdge(s, h, "v", "instruction", rho) for s in senders for h in heads]
        if stop == 0:
            edges += [CircuitEdge(start, head, "k", "steers") for head in heads]
        else:
            edges += [
                CircuitEdge(_place(sender.at), head, "k", "steers")
                for sender in senders
                for head in heads
            ]
        if places != [LAST_STATE]:
            # Other tokens look at the first one.
            edges += [CircuitEdge(_place(head.at), head, "q", "steers") for head in heads]
            edges += [CircuitEdge(_place(reward_to_go_of(1)), h, "k", "steers") for h in heads]
        nodes, senders = [*nodes, *heads], heads
    return nodes, [*edges, CircuitEdge(senders[0], decides, "mlp", "instruction")]


def _stops(spec: PlantedSpec) -> list[list[str]]:
    """Roles of the tokens that the instruction passes, a list a stop."""
    return [[state_of(step) for step in steps] for steps in spec.paths.relays]


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
    found = [Restored(CircuitNode(hook, None, INSTRUCTION_STATE), 1.0) for hook in hooks]
    for stop, places in enumerate(_stops(spec)):
        layer = 1 + stop
        hooks = (f"blocks.{layer}.hook_attn_out", f"blocks.{layer}.hook_resid_mid")
        hooks += (f"blocks.{layer}.hook_resid_post", f"blocks.{layer + 1}.hook_resid_pre")
        for at in places:
            found += [Restored(CircuitNode(h, None, at), 1 / len(places)) for h in hooks]
            found += [Restored(_z(layer, at), 1 / len(places))]
    layer = spec.moving_layer
    found += [Restored(CircuitNode(f"blocks.{layer}.hook_attn_out", None, LAST_STATE), 1.0)]
    if spec.paths.redundant_heads:
        # Half of what two heads brought is the other instruction's: together nothing, half the way.
        found += [Restored(_z(layer, head=head), 0.5) for head in (0, 1)]
        found += [Restored(_mlp(layer), 1.0)]
    else:
        found += [Restored(_z(layer), 1.0)]
    return (*found, *_after(spec, f"{layer}.mid"), *_negative(spec))


def _target(spec: PlantedSpec) -> tuple[Restored, ...]:
    embedded = Restored(CircuitNode("hook_embed", None, LAST_STATE), 1.0)
    return (embedded, *_after(spec, "0.pre"), *_negative(spec))


def _reward_to_go(spec: PlantedSpec) -> tuple[Restored, ...]:
    alone: dict[str, float | None] = {LAST_REWARD_TO_GO: 1.0}
    if spec.paths.mean_reward_to_go:
        steps = spec.env.decision.step + 1
        rho = _one_of_mean(spec, steps)
        alone = dict.fromkeys([LAST_REWARD_TO_GO, *map(reward_to_go_of, range(1, steps + 1))], rho)
    found = [
        Restored(CircuitNode(hook, None, at), rho)
        for hook in ("hook_embed", "blocks.0.hook_resid_pre")
        for at, rho in {**alone, ALL_REWARD_TO_GO: 1.0}.items()
    ]
    found += [Restored(_z(0), 1.0)]
    found += [Restored(CircuitNode("blocks.0.hook_attn_out", None, LAST_STATE), 1.0)]
    found += [Restored(_mlp(0), 1.0)]
    return (*found, *_after(spec, "0.mid"), *_negative(spec))


def _one_of_mean(spec: PlantedSpec, steps: int) -> float | None:
    """Rho of one reward-to-go token where the model reads their mean; None: it depends on the direction.

    For windows that ask for the best return or for none; the logit difference is straight in what the first
    MLP says.
    """
    low, high = spec.threshold
    best = spec.best_return

    def said(mean: float) -> float:
        return min(1.0, max(-1.0, 2 * (mean - low) / (high - low) - 1))

    whole = said(best) - said(0.0)
    up = (said(best / steps) - said(0.0)) / whole
    down = (said(best) - said(best * (steps - 1) / steps)) / whole
    return up if abs(up - down) < TOLERANCES["exact"] else None


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
    notes += _notes_on_paths(spec.paths)
    if spec.dimensions is not None:
        notes.append("Features overlap, so what is exact without superposition holds to tolerance.")
    return tuple(notes)


def _notes_on_paths(paths: Paths) -> list[str]:
    notes = []
    if paths.relays:
        stops = ", then ".join(" and ".join(f"S{step}" for step in steps) for steps in paths.relays)
        notes.append(
            f"The instruction goes by {stops}; of several tokens at one stop each carries the same share."
        )
    if paths.redundant_heads:
        notes.append(
            "Heads (1, 0) and (1, 1) both bring the instruction, and MLP 1 says once what they say: ablating "
            "one with zeros or means changes nothing, patching one is half of patching both."
        )
    if paths.mean_reward_to_go:
        notes.append("Reward-to-go is read as the mean over all its tokens up to the decision.")
    if paths.silent_head:
        notes.append(
            "A head looks at the instruction as sharply as the main one and reads it; its output weights are "
            "0, so that it does nothing."
        )
    return notes
