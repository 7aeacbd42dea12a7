"""What is true of a node or an edge at a token, by a model's known circuit."""

from __future__ import annotations

from dataclasses import dataclass

from dtx.dt.circuit import (
    ALL_REWARD_TO_GO,
    LAST_REWARD_TO_GO,
    LAST_STATE,
    Circuit,
    CircuitNode,
    positions,
)
from dtx.dt.names import head_name, mlp_name

FLIPS = {
    "instruction_flip": "instruction",
    "swap_targets": "target",
    "rtg_zero": "reward_to_go",
}
"""The variable of the circuit that each edit of ``conf/pairs/memory.yaml`` flips; a decoy flips none."""
TOGETHER = -1
"""The position of what is patched at all tokens at once."""
ANY_INPUT = "qkv"
"""The input of a head by whichever of queries, keys and values."""


@dataclass(frozen=True)
class Truth:
    """One expectation.

    Attributes:
        label: 1 in the circuit, 0 not, None not to be scored.
        rho: The restored logit difference that must come out; None where only the label is known.
    """

    label: int | None
    rho: float | None


OPEN = Truth(None, None)
NOTHING = Truth(0, 0.0)


class Known:
    """A circuit laid over a window.

    Args:
        circuit: Of the model.
        steps: States of the window, which starts with its episode.
    """

    def __init__(self, circuit: Circuit, steps: int):
        self.circuit, self.at = circuit, positions(steps)
        # Trained to a circuit, not compiled: its heads' outputs are known, not how they come about.
        self.learnt = not circuit.neurons
        # Of models trained before that was measured: a head gets its variable by some input.
        self.any_input = self.learnt and "inputs" not in circuit.variant
        self.roles = {role: places for role, places in self.at.items() if role != ALL_REWARD_TO_GO}

    def node(self, edit: str, hook: str, head: int | None, position: int) -> Truth:
        """Of patching an activation at one token."""
        flip = FLIPS.get(edit)
        if flip is None or flip not in self.circuit.restored:
            return OPEN
        listed = {
            r.node.at: r.rho
            for r in self.circuit.restored[flip]
            if (r.node.hook, r.node.head) == (hook, head)
        }
        for role, places in self.roles.items():
            if position in places and role in listed:
                return _of(listed[role])
        # Where it is left open which reward-to-go token is read, it is so for every one of them.
        if position in self.at[ALL_REWARD_TO_GO] and ALL_REWARD_TO_GO in listed:
            return OPEN if listed.get(LAST_REWARD_TO_GO, 0.0) is None else NOTHING
        return NOTHING

    def edge(self, edit: str, sender: str, receiver: str, kind: str, position: int) -> Truth:
        """Of patching what a sender wrote and one receiver reads at a token, or at all (``TOGETHER``)."""
        flip = FLIPS.get(edit)
        if flip is None or flip not in self.circuit.restored:
            return OPEN
        # An edge of the same two nodes at several tokens: patched together their shares add up.
        parts: list[float | None] = []
        for edge in self.circuit.edges:
            if (name_of(edge.sender), name_of(edge.receiver)) != (sender, receiver):
                continue
            if edge.input != kind and not (kind == ANY_INPUT and edge.input in ANY_INPUT):
                continue
            places = self.at[edge.sender.at]
            if position != TOGETHER and position not in places:
                continue
            if edge.variable in ("steers", "backup"):
                return OPEN
            if self.learnt and "mlp" in edge.sender.hook + edge.receiver.hook:
                return OPEN  # which MLP does it
            if edge.variable not in (flip, "turn"):
                continue
            if position != TOGETHER and len(places) > 1:
                return OPEN  # which of the equal tokens is read is the model's own choice
            parts.append(None if kind == ANY_INPUT else edge.rho)
        if not parts:
            return NOTHING
        known = [rho for rho in parts if rho is not None]
        return Truth(1, sum(known) if len(known) == len(parts) else None)

    def carriers(self) -> dict[tuple[int, int], tuple[int, ...]]:
        """(layer, head) of the heads that read at the decision, and the tokens where each one reads.

        A backup head is none of them: it looks there when the main one is silent. Where a head that learnt
        its part looks, it chose itself. A head that moves something between earlier tokens does not read at
        the decision.
        """
        places: dict[tuple[int, int], tuple[int, ...]] = {}
        if self.learnt:
            return places
        for edge in self.circuit.edges:
            z = edge.receiver.hook.endswith("hook_z") and edge.receiver.at == LAST_STATE
            if z and edge.input == "v" and edge.variable in ("instruction", "reward_to_go"):
                layer, head = int(edge.receiver.hook.split(".")[1]), edge.receiver.head
                places[layer, head] = places.get((layer, head), ()) + self.at[edge.sender.at]
        return places


def _of(rho: float | None) -> Truth:
    return OPEN if rho is None else Truth(int(rho != 0), rho)


def name_of(node: CircuitNode) -> str:
    """A node of the circuit as :mod:`dtx.dt.paths` calls it: ``embed``, ``L0H3``, ``L1 MLP``, ``logits``."""
    if node.hook in ("hook_embed", "hook_pos_embed"):
        return "embed"
    if node.hook == "unembed":
        return "logits"
    layer = int(node.hook.split(".")[1])
    return mlp_name(layer) if node.head is None else head_name(layer, node.head)
