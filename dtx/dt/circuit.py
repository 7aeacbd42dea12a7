"""The known circuit of a planted model, as data: what an analysis of that model has to find.

``circuit.json`` lies beside the weights of ``dt=planted`` and ``dt=interchange``; the scorecard reads it.
Places in the window have names, *roles*, because an analysis picks its own window.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dtx.dt.tokens import DECISION_TRANSFORMER, REWARD_TO_GO
from dtx.errors import UserError
from dtx.files import read_json
from dtx.report import write_atomically

FILE = "circuit.json"
INSTRUCTION_STATE, LAST_REWARD_TO_GO, LAST_STATE = (
    "instruction_state",
    "last_reward_to_go",
    "last_state",
)
ALL_REWARD_TO_GO = "all_reward_to_go"
ROLES = {
    INSTRUCTION_STATE: "S1, the state token that shows the instruction (the start of the routine)",
    LAST_REWARD_TO_GO: "the reward-to-go token before the decision",
    LAST_STATE: "the state token of the decision square, whose logits are compared",
    ALL_REWARD_TO_GO: "every reward-to-go token up to the decision, patched together",
    "state_N": "the state token of step N, the first one being 1",
    "reward_to_go_N": "the reward-to-go token of step N, patched alone",
}


def state_of(step: int) -> str:
    """The role of a step's state token; the first step is 1."""
    return f"state_{step}"


def reward_to_go_of(step: int) -> str:
    """The role of a step's reward-to-go token, patched alone; the first step is 1."""
    return f"reward_to_go_{step}"


def positions(steps: int) -> dict[str, tuple[int, ...]]:
    """Token indices of each role in a window of (R, S, A) that starts with its episode.

    Args:
        steps: Timesteps up to the decision, itself included.
    """
    layout = DECISION_TRANSFORMER
    asked = tuple(layout.place(REWARD_TO_GO, step) for step in range(steps))
    return {
        INSTRUCTION_STATE: (layout.first_state,),
        LAST_REWARD_TO_GO: asked[-1:],
        LAST_STATE: (layout.last_state(steps),),
        ALL_REWARD_TO_GO: asked,
        **{state_of(step): (layout.last_state(step),) for step in range(1, steps + 1)},
        **{reward_to_go_of(step + 1): (place,) for step, place in enumerate(asked)},
    }


@dataclass(frozen=True)
class CircuitNode:
    """An activation at a place: a hook, one of its heads (None: it has none, or all), and a role."""

    hook: str
    head: int | None
    at: str


@dataclass(frozen=True)
class CircuitEdge:
    """What a sender writes and a receiver reads.

    Attributes:
        input: What of the receiver reads it: q, k, v, mlp or logits.
        variable: What it carries; ``steers`` where it only says where to look (keys and queries).
        rho: The restored logit difference that patching it gives; None: the model leaves it open.
    """

    sender: CircuitNode
    receiver: CircuitNode
    input: str
    variable: str
    rho: float | None = 1.0


@dataclass(frozen=True)
class Restored:
    """The restored logit difference that patching a node gives; None: this model leaves it open."""

    node: CircuitNode
    rho: float | None


@dataclass(frozen=True)
class Neuron:
    """A neuron of the deciding MLP: the signs it answers to, and the turn it writes."""

    layer: int
    neuron: int
    instruction: int
    target: int
    high: int
    writes: str


@dataclass(frozen=True, kw_only=True)
class Circuit:
    """Ground truth of a model.

    Attributes:
        kind: planted or interchange.
        variant: The options that made it.
        n_layers: Blocks. n_heads: Heads a block.
        nodes: The nodes in the circuit. edges: Between them.
        restored: By flipped variable (``instruction``, ``target``, ``reward_to_go``), denoising at the
            decision: nodes with their rho. Every other residual, attention, MLP and head output at any
            token has rho 0.
        neurons: Of the deciding MLP, where they are known.
        logit_difference: |left - right| at the decision, on either side of a flip; None where it is learnt.
        tolerance: Largest error of a rho that the model's own construction causes.
        notes: What else a reader must know.
    """

    kind: str
    variant: dict[str, Any]
    n_layers: int
    n_heads: int
    nodes: tuple[CircuitNode, ...]
    edges: tuple[CircuitEdge, ...]
    restored: dict[str, tuple[Restored, ...]]
    neurons: tuple[Neuron, ...]
    logit_difference: float | None
    tolerance: float
    notes: tuple[str, ...]

    def rho(self, flip: str, node: CircuitNode) -> float | None:
        """Expected rho of a node; 0 for a node that is not listed, None where the model leaves it open."""
        known = [r.rho for r in self.restored[flip] if r.node == node]
        return known[0] if known else 0.0

    def heads(self) -> set[tuple[int, int]]:
        """(layer, head) of the heads in the circuit."""
        return {
            (int(n.hook.split(".")[1]), n.head)
            for n in self.nodes
            if n.head is not None and n.hook.endswith("hook_z")
        }

    def save(self, folder: Path) -> None:
        """Write ``circuit.json``."""
        values = {"roles": ROLES, **dataclasses.asdict(self)}
        write_atomically(folder / FILE, json.dumps(values, indent=1) + "\n")

    @staticmethod
    def read(folder: Path) -> Circuit:
        """Read it back from a stage's folder.

        Raises:
            UserError: The file is missing or damaged.
        """
        try:
            raw = read_json(folder / FILE)
            # Before edges had a rho, those of a negative head were left open.
            shared = bool(raw["variant"].get("negative_head"))
            return Circuit(
                **{k: v for k, v in raw.items() if k not in ("roles", "edges", *_PARSED)},
                **{k: parse(raw[k]) for k, parse in _PARSED.items()},
                edges=_edges(raw["edges"], shared),
            )
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{folder / FILE}: no readable circuit ({error}); invalidate the stage to redo it"
            ) from error


def _edges(raw: list[dict], shared: bool) -> tuple[CircuitEdge, ...]:
    return tuple(
        CircuitEdge(
            CircuitNode(**e["sender"]),
            CircuitNode(**e["receiver"]),
            e["input"],
            e["variable"],
            e.get("rho", None if shared and e["variable"] == "turn" else 1.0),
        )
        for e in raw
    )


_PARSED = {
    "nodes": lambda raw: tuple(CircuitNode(**n) for n in raw),
    "restored": lambda raw: {
        k: tuple(Restored(CircuitNode(**r["node"]), r["rho"]) for r in v) for k, v in raw.items()
    },
    "neurons": lambda raw: tuple(Neuron(**n) for n in raw),
    "notes": tuple,
}
