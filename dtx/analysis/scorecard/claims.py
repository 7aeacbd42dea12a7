"""Which statements of analyses are true of compiled models, by their construction.

A table of its own, beside no analysis: what is true does not follow from how an analysis asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase

from dtx.dt.circuit import Circuit

Holds = Callable[[Circuit], bool | None]
"""Whether a statement is true of a model; None: its construction leaves it open."""


def _always(_: Circuit) -> bool:
    return True


def _never(_: Circuit) -> bool:
    return False


def _open(_: Circuit) -> None:
    return None


def _never_exactly(circuit: Circuit) -> bool | None:
    """False where nothing interferes: superposed features, and distractors, may do a little of anything."""
    stray = circuit.variant["superposed"] or circuit.variant["distractor_heads"]
    return None if stray else False


def _straight(circuit: Circuit) -> bool:
    """The instruction passes no third token."""
    return not circuit.variant.get("relays")


def _relayed(circuit: Circuit) -> bool | None:
    """A head reads what an earlier one wrote where there are relays; distractors may do anything."""
    return True if circuit.variant.get("relays") else _never_exactly(circuit)


def _inside(circuit: Circuit) -> bool:
    """The deciding MLP is not the last block's."""
    return circuit.neurons[0].layer < circuit.n_layers - 1


CARRIED: Mapping[str, Holds] = {
    "instruction_flip*_carried": _always,
    "swap_targets*_carried": _always,
    "rtg_zero*_carried": _always,
    "decoy*_carried": _never,
}
"""That a component, or an edge, carries an edit; the decoy is seen by none."""

TRUTHS: Mapping[str, Mapping[str, Holds]] = {
    "lens": {"prediction_forms_inside": _inside},
    # One MLP writes the turn; those before and after it write nothing on actions.
    "congruence": {"congruence_grows_with_layer": _never},
    "circuits": {"heads_compose": _relayed},
    "attention": {
        # Head 0 of the first block looks at reward-to-go tokens alone, and of a 0 it writes nothing.
        "specific_to_modalities": _open,
        "reward_to_go_moves_attention": _never_exactly,
        "switches_to_reward_to_go": _never_exactly,
    },
    "psychology": {
        "set_routine": _always,
        "one_decision_square": _always,
        "decision_cached": _always,  # behind the junction it walks on, whichever way it turned
        "diffuse_off_routine": _never_exactly,
        "non_kinetic_mass": _never_exactly,
        "looks_back": _never,
    },
    "activation_patching": {
        "instruction_flip_moves": _straight,
        "swap_targets_moves": _never,  # it is seen where it is decided
        "decoy_moves": _never,
        "rtg_zero_moves": _open,
        "rtg_zero_collected": _always,
        **CARRIED,
    },
    "path_patching": CARRIED,
    "smallest_circuit": {
        "instruction_flip*_circuit": _always,
        "swap_targets*_circuit": _always,
        "rtg_zero*_circuit": _always,
        "decoy*_circuit": _never,
    },
    # Reward-to-go is their only switch: "depends", which is neither confirmed nor refuted.
    "steering": {"rtg_off": _open},
}
"""By analysis and claim, whose id may have a part in it that says under which condition (``*``)."""


def truth_of(analysis: str, claim: str, circuit: Circuit | None) -> bool | None:
    """Whether a claim is true of a model, as far as that is known.

    Args:
        analysis: Its name.
        claim: Its id.
        circuit: Of a compiled model. Of a trained one nothing is known beyond its heads; None: a negative.
    """
    if circuit is None or not circuit.neurons:
        return None
    for known, holds in TRUTHS.get(analysis, {}).items():
        if fnmatchcase(claim, known):
            return holds(circuit)
    return None
