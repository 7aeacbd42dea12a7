"""Which statements of analyses are true of compiled models, by their construction.

A table of its own, beside no analysis: what is true does not follow from how an analysis asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

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


def _inside(circuit: Circuit) -> bool:
    """The deciding MLP is not the last block's."""
    return circuit.neurons[0].layer < circuit.n_layers - 1


TRUTHS: Mapping[str, Mapping[str, Holds]] = {
    "lens": {"prediction_forms_inside": _inside},
    # One MLP writes the turn; those before and after it write nothing on actions.
    "congruence": {"congruence_grows_with_layer": _never},
    "attention": {
        "specific_to_modalities": _always,  # head 0 of the first block looks at reward-to-go tokens alone
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
    },
    "steering": {"rtg_off": _always},
}
"""By analysis and claim."""


def truths_of(analysis: str, circuit: Circuit | None) -> dict[str, bool]:
    """What is known of an analysis' claims, by their ids.

    Args:
        analysis: Its name.
        circuit: Of a compiled model. Of a trained one nothing is known beyond its heads; None: a negative.
    """
    if circuit is None or not circuit.neurons:
        return {}
    known = {id: holds(circuit) for id, holds in TRUTHS.get(analysis, {}).items()}
    return {id: holds for id, holds in known.items() if holds is not None}
