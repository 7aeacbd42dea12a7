"""The study's claims on patching: they hold in a model made to meet them, and fail in those made not to."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from dtx.analysis.activation_patching.claims import Measured, claims
from dtx.analysis.activation_patching.compute import compute
from dtx.analysis.core.effects import mean_rho, pooled
from dtx.analysis.core.gaps import Gaps, aligned
from dtx.analysis.core.patching_spec import Direction, Node
from dtx.analysis.core.result import Result
from dtx.analysis.core.verdicts import About, Verdict
from dtx.config.compose import build_group
from dtx.dt.load import untrained_like
from dtx.pairs.making import make
from dtx.pairs.pair_set import PairSet
from dtx.report import Report
from tests.analysis.test_activation_patching import model
from tests.dt.planted_variants import planted

BOTH = (Direction.denoise, Direction.noise)
MOVES, COLLECTED, CARRIED = (
    "instruction_flip_moves",
    "rtg_zero_collected",
    "instruction_flip_carried",
)


@pytest.fixture(scope="module")
def stage():
    built = build_group("analysis/activation_patching", ["pairs.dataset=null"])
    return dataclasses.replace(built, nodes=(Node.resid_pre, Node.attn_out, Node.mlp_out))


@pytest.fixture(scope="module")
def pairs(stage, tmp_path_factory) -> PairSet:
    out = tmp_path_factory.mktemp("pairs")
    make(stage.pairs).save(out, Report(out))
    return PairSet.read(out)


@pytest.fixture(scope="module")
def tables(stage, pairs) -> dict[str, pd.DataFrame]:
    """Patching of T0, whose instruction goes from S1 to the last state and whose MLPs decide."""
    return dict(compute(stage, planted("plain")[1], pairs).tables)


def verdicts_of(result: Result) -> dict[str, Verdict]:
    return {claim.id: claim.verdict for claim in result.claims}


def judged(tables) -> dict[str, Verdict]:
    measured = Measured(tables, Gaps.of(tables["runs"], 0.5, {}), BOTH)
    edits = ["instruction_flip", "swap_targets", "rtg_zero", "decoy"]
    return {claim.id: claim.verdict for claim in claims(measured, edits)}


def edited(tables, table: str, rho: float, **where) -> dict:
    """The tables with other numbers in some rows."""
    changed = tables[table].copy()
    there = np.logical_and.reduce([changed[name] == value for name, value in where.items()])
    assert there.any()
    changed.loc[there, ["rho", "low", "high"]] = rho
    return {**tables, table: changed}


def test_the_planted_model_meets_both(tables):
    verdicts = judged(tables)
    assert verdicts[MOVES] == verdicts[COLLECTED] == verdicts[CARRIED] == Verdict.CONFIRMED
    # Its targets are read at the last state, and the decoy changes nothing: there is nothing to ask.
    assert verdicts["swap_targets_moves"] == verdicts["decoy_carried"] == Verdict.NOT_APPLICABLE
    measured = Measured(tables, Gaps.of(tables["runs"], 0.5, {}), BOTH)
    found = {claim.id: claim for claim in claims(measured, ["instruction_flip", "rtg_zero"])}
    assert found[MOVES].about is About.MODEL and found[COLLECTED].about is About.REWARD_TO_GO
    for target in ("RTG 0.892", "RTG 0:"):
        for direction in ("denoise", "noise"):
            assert f"{direction}, {target}" in found[MOVES].evidence
    assert "carries what was edited" in found[CARRIED].evidence


@pytest.mark.parametrize("variant", ["relay", "three_relays_at_once"])
def test_an_edit_that_passes_by_third_tokens_has_not_moved_directly(stage, pairs, variant):
    """Of three relays each carries a third: no single one is over a half, all together are everything."""
    found = compute(stage, planted(variant)[1], pairs)
    assert found.established and verdicts_of(found)[MOVES] is Verdict.NOT_CONFIRMED
    effects, means = found.tables["effects"], found.tables["mediation"]
    own = effects[(effects["edit"] == "instruction_flip") & (effects["kind"] == "edit")]
    between = own[(own["name"] == "L2 resid_pre") & ~own["token"].isin(["S1", "S5"])]
    together = means[(means["edit"] == "instruction_flip") & (means["layer"] == 2)]
    together = together.set_index(["direction", "reward_to_go", "set"])["rho"]
    for direction in ("denoise", "noise"):
        assert together[direction, 0.892, "others"] == pytest.approx(1, abs=1e-4)
        assert together[direction, 0.892, "edited and last"] == pytest.approx(0, abs=1e-4)
    if variant == "three_relays_at_once":
        assert between["rho"].max() < 0.5


def test_third_tokens_that_bring_a_fifth_in_one_condition_make_it_depend(tables):
    where = {"edit": "instruction_flip", "layer": 1, "set": "others", "reward_to_go": 0.0}
    some = edited(tables, "mediation", 0.5, **where)
    assert judged(some)[MOVES] is Verdict.DEPENDS
    against = edited(tables, "mediation", -0.5, **where)  # signs count: it is no less a third way
    assert judged(against)[MOVES] is Verdict.DEPENDS


def test_an_interval_over_the_limit_decides_nothing(tables):
    means = tables["mediation"].copy()
    there = (
        (means["edit"] == "instruction_flip") & (means["layer"] == 1) & (means["set"] == "others")
    )
    means.loc[there, ["low", "high"]] = [-0.1, 0.4]
    assert judged({**tables, "mediation": means})[MOVES] is Verdict.NOT_DECIDED


def test_an_effect_that_arrives_in_the_last_layer_alone_has_not_moved(tables):
    late = edited(tables, "mediation", 0.2, edit="instruction_flip", layer=2, set="last")
    assert judged(late)[MOVES] is Verdict.NOT_CONFIRMED


def test_the_directions_are_told_apart(tables):
    """An MLP that brings all in one direction and little in the other collects in that one alone."""
    less = edited(
        tables, "effects", 0.3, edit="rtg_zero", node="mlp_out", kind="edit", direction="denoise"
    )
    assert judged(less)[COLLECTED] is Verdict.DEPENDS
    less = edited(less, "effects", 0.3, edit="rtg_zero", node="mlp_out", kind="edit")
    assert judged(less)[COLLECTED] is Verdict.NOT_CONFIRMED


def test_a_place_that_any_other_world_disturbs_alike_carries_nothing(tables):
    everywhere = {"edit": "instruction_flip"}
    alike = edited(tables, "effects", 0.9, kind="donor_clean", **everywhere)
    alike = edited(alike, "effects", 0.9, kind="donor_corrupt", **everywhere)
    verdicts = judged(alike)
    assert not verdicts[CARRIED].states and not verdicts[MOVES].states
    assert verdicts[COLLECTED] is Verdict.CONFIRMED


def test_without_donors_nothing_is_established(stage, pairs):
    own = dataclasses.replace(
        pairs, table=pairs.table[pairs.table["of"] < 0].reset_index(drop=True)
    )
    found = compute(stage, planted("plain")[1], own)
    assert not found.established and any("control not measured" in r for r in found.reasons())
    assert not any(claim.verdict.states for claim in found.claims)


def test_the_controls_are_donors_with_their_expectation(stage, pairs):
    found = compute(stage, planted("plain")[1], pairs)
    assert found.established and len(found.controls) > 8
    assert all(
        "expected 0" in control.name and control.n in (None, 4) for control in found.controls
    )
    for name, value in found.metrics.items():
        for expected in (0, 1):
            # The planted instruction's place carries what was edited, which such donors have the other way.
            if name.endswith(f"expected_{expected}_rho"):
                other = 1 - expected if name.startswith("instruction_flip") else expected
                assert value == pytest.approx(other, abs=1e-3), name


def test_no_claim_on_runs_that_do_not_differ(tables):
    runs = tables["runs"].assign(ld_clean=0.0, ld_corrupt=0.0)
    assert set(judged({**tables, "runs": runs}).values()) == {Verdict.NOT_APPLICABLE}


def test_a_shift_of_the_logits_alike_in_all_layouts_moves_no_decision(tables):
    """Left gains a logit whatever the layout asks for: no decision, however exactly a component brings it."""
    runs = tables["runs"].copy()
    side = np.where(runs["variant"].str.endswith("left"), 1.0, -1.0)
    runs["ld_clean"], runs["ld_corrupt"] = 5 * side + 1, 5 * side
    assert set(aligned(runs)) == {1.0, -1.0}
    assert not any(verdict.states for verdict in judged({**tables, "runs": runs}).values())


def test_an_edit_must_move_the_decision_further_than_in_untrained_models(tables):
    runs = tables["runs"]
    every = dict.fromkeys(zip(runs["edit"], runs["reward_to_go"], strict=True), 1000.0)
    measured = Measured(tables, Gaps.of(runs, 0.5, every), BOTH)
    found = list(claims(measured, ["instruction_flip", "rtg_zero"]))
    assert {claim.verdict for claim in found} == {Verdict.NOT_APPLICABLE}
    assert "any edit in untrained models (1000.00)" in found[0].evidence


# --- means over layouts ------------------------------------------------------------------------------


def patches(high, low) -> pd.DataFrame:
    """rho of one place in four layouts, at two rewards-to-go."""
    rows = [
        (f"layout {i}", target, rho)
        for target, values in ((0.9, high), (0.0, low))
        for i, rho in enumerate(values)
    ]
    table = pd.DataFrame(rows, columns=["variant", "reward_to_go", "rho"])
    return table.assign(edit="flip", kind="edit", direction="denoise", name="L0")


BY = ["edit", "kind", "direction", "reward_to_go", "name"]


@pytest.mark.parametrize(
    ("high", "low", "may"),
    [
        ([0.9, 0.91, 0.89, 0.9], [0.9, 0.9, 0.9, 0.89], True),
        ([0.84] * 4, [0.18] * 4, False),  # the mean, .5, is true of neither
        ([0.9, 0.1, 0.9, 0.1], [0.1, 0.9, 0.1, 0.9], False),  # equal means, other layouts
        (
            [0.7, 0.3, 0.5, 0.9],
            [0.5, 0.6, 0.4, 0.8],
            False,
        ),  # not significant, and not alike either
    ],
)
def test_rewards_to_go_are_pooled_only_where_they_are_alike(high, low, may):
    table = patches(high, low)
    (row,) = pooled(table, ["edit", "direction", "name"]).to_dict("records")
    assert row["may"] is may
    assert row["rho"] == pytest.approx(np.mean([high, low])) if may else np.isnan(row["rho"])
    apart = mean_rho(table, BY).set_index("reward_to_go")
    assert apart["rho"].to_dict() == pytest.approx({0.9: np.mean(high), 0.0: np.mean(low)})
    assert set(apart["n"]) == {4} and set(apart["interval"]) == {"t over 4 layouts"}


def test_cells_beyond_0_are_few_among_those_without_effect():
    """Among 1,000 cells of noise hardly one, with one real cell that is found."""
    rng = np.random.default_rng(0)
    values = rng.normal(scale=0.1, size=(1000, 4))
    values[0] = [0.9, 0.91, 0.9, 0.89]
    rows = [
        {"name": f"cell {c}", "variant": f"layout {k}", "rho": rho}
        for c, cells in enumerate(values)
        for k, rho in enumerate(cells)
    ]
    table = pd.DataFrame(rows).assign(edit="flip", kind="edit", direction="noise", reward_to_go=0.9)
    found = mean_rho(table, BY)
    assert found.loc[0, "beyond"] and found["beyond"].sum() <= 2
    assert (found["p"] < 0.05).sum() > 20  # without the correction


# --- negatives ---------------------------------------------------------------------------------------


@torch.inference_mode()
@pytest.mark.parametrize("gap", [pytest.param(0.5, marks=pytest.mark.slow), 0.02])
def test_untrained_models_and_clones_state_nothing(stage, pairs, gap):
    """Of five untrained models and five clones, with a gap of their own, too; a clone may flip with the
    instruction, but nothing of reward-to-go.
    """
    own = dataclasses.replace(pairs, about={**pairs.about, "min_ld_gap": gap})
    stated, asked = [], 0
    for reward_to_go in (True, False):
        network = model()
        cfg = dataclasses.replace(network.cfg, reward_to_go=reward_to_go)
        for seed in range(100, 105):  # none of the twins'
            fresh = untrained_like(type(network)(cfg), seed)
            made = compute(stage, fresh, own).claims
            made = [c for c in made if reward_to_go or c.about is About.REWARD_TO_GO]
            asked += len(made)
            stated += [(seed, c.id, c.evidence) for c in made if c.verdict.states]
    assert asked >= 20 and len(stated) <= 0.05 * asked, stated
