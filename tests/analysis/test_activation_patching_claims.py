"""The study's claims on patching: they hold in a model made to meet them, and fail on numbers that do not."""

from __future__ import annotations

import pandas as pd
import pytest

from dtx.analysis.activation_patching.claims import claims
from dtx.analysis.activation_patching.compute import compute
from dtx.analysis.core.result import About, Verdict
from dtx.config.compose import build_group
from dtx.dt.model import load
from dtx.dt.planted.compile import compile_and_verify
from dtx.pairs.making import make
from dtx.pairs.pair_set import PairSet
from dtx.report import Report


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> dict[str, pd.DataFrame]:
    """Patching of T0, whose instruction goes from S1 to the last state and whose MLPs decide."""
    out = tmp_path_factory.mktemp("pairs")
    stage = build_group("analysis/activation_patching", ["pairs.dataset=null", "dt=planted"])
    make(stage.pairs).save(out, Report(out))
    compile_and_verify(stage.dt, out)
    return dict(compute(stage, load(out), PairSet.read(out)).tables)


def judged(tables) -> dict[str, Verdict]:
    return {claim.id: claim.verdict for claim in claims(tables)}


def edited(tables, edit: str, node: str, token: str, rho: float, layer: int) -> dict:
    """The tables with other effects at one place."""
    effects = tables["effects"].copy()
    there = (effects["edit"] == edit) & (effects["node"] == node) & (effects["token"] == token)
    there &= (effects["layer"] == layer) & (effects["kind"] == "edit")
    assert there.any()
    effects.loc[there, ["rho", "low", "high"]] = rho
    return {**tables, "effects": effects}


MOVES, COLLECTED, CARRIED = (
    "instruction_flip_moves",
    "rtg_zero_collected",
    "instruction_flip_carried",
)


def test_the_planted_model_meets_both(tables):
    verdicts = judged(tables)
    assert verdicts[MOVES] == verdicts[COLLECTED] == verdicts[CARRIED] == Verdict.CONFIRMED
    about = {claim.id: claim.about for claim in claims(tables)}
    assert about[MOVES] is About.MODEL and about[COLLECTED] is About.REWARD_TO_GO
    assert about[CARRIED] is About.INSTRUMENT  # some place carries an edit in any model


def test_a_stop_at_a_third_token_makes_it_depend(tables):
    assert (
        judged(edited(tables, "instruction_flip", "resid_pre", "A3", 0.9, 1))[MOVES]
        == Verdict.DEPENDS
    )


def test_an_effect_that_arrives_in_the_last_layer_alone_has_not_moved(tables):
    late = edited(tables, "instruction_flip", "resid_pre", "S5", 0.2, 2)
    assert judged(late)[MOVES] == Verdict.NOT_CONFIRMED


def test_an_mlp_that_brings_less_than_half_collects_if_attention_brings_still_less(tables):
    less = tables
    for layer in range(3):
        less = edited(less, "rtg_zero", "mlp_out", "S5", 0.3, layer)
    assert judged(less)[COLLECTED] == Verdict.NOT_CONFIRMED
    for layer in range(3):
        less = edited(less, "rtg_zero", "attn_out", "S5", 0.2, layer)
    assert judged(less)[COLLECTED] == Verdict.DEPENDS


def test_a_donor_that_brings_as_much_takes_the_claim_away(tables):
    effects = tables["effects"].copy()
    donor = (effects["edit"] == "instruction_flip") & (effects["kind"] == "shuffled_donor")
    effects.loc[donor, "rho"] = 1.5
    verdicts = judged({**tables, "effects": effects})
    assert verdicts[MOVES] == verdicts[CARRIED] == Verdict.NOT_CONFIRMED
    assert verdicts[COLLECTED] == Verdict.CONFIRMED


def test_no_claim_on_runs_that_do_not_differ(tables):
    effects = tables["effects"].assign(rho=float("nan"))
    assert claims({**tables, "effects": effects}) == []
