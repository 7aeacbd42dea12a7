"""Steering: exact identities, a model whose mind is known, and what must never count as success."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from dtx.analysis.core.channels import cell_names
from dtx.analysis.core.result import About, Verdict
from dtx.analysis.scorecard.claims import TRUTHS
from dtx.analysis.steering import Steering
from dtx.analysis.steering.compute import result_of
from dtx.analysis.steering.edits import ActivationEdit, Steered, activations, mask, residual, shows
from dtx.analysis.steering.measure import EPISODES, NOTHING, OWN, PART, WHOLE, measure
from dtx.analysis.steering.methods import candidates, random_like
from dtx.analysis.steering.play import play
from dtx.analysis.steering.spec import RANDOM, UNSTEERED, Play, Site, SteeringMethod, Tokens
from dtx.analysis.steering.windows import CHANGE, KEEP, WindowMaker, asked, towards
from dtx.config.compose import build_group
from dtx.config.ranges import problems
from dtx.dt.rollout import decision_contexts
from dtx.env.actions import Action
from dtx.errors import UserError
from dtx.report import read_metrics
from dtx.running.runner import run
from tests.analysis.core.test_windows import model


@pytest.fixture(scope="module")
def stage(env) -> Steering:
    return small(env)


def small(env) -> Steering:
    """Few windows, no demonstrations, short episodes."""
    built = build_group("analysis/steering", ["analysis.steering.demonstrations=0"])
    held = dataclasses.replace(built.held_out, detours=built.held_out.detours[:1])
    quick = dataclasses.replace(built.descent, steps=2)
    return dataclasses.replace(
        built, env=dataclasses.replace(env, max_steps=10), dataset=None, demonstrations=0, detours=(),
        held_out=held, descent=quick, episodes=4, controls=20, alphas=(0.0, 1.0, 2.0),
    )  # fmt: skip


def only(stage: Steering, goal: str, **changes) -> Steering:
    return dataclasses.replace(stage, goals={goal: stage.goals[goal]}, **changes)


@pytest.fixture
def planted(store, experiment_of):
    stage = build_group("dt/planted")
    run(experiment_of(stage))
    return stage.load()


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("hook", ["resid_pre", "mlp_out", "z"])
def test_size_0_changes_nothing_and_an_own_value_neither(env, left, hook):
    network = model(n_layers=2, left_padding=left)
    context = decision_contexts(network, env.decision, [0.3])[0]
    name = residual(1) if hook == "resid_pre" else f"blocks.0.{'attn.' * (hook == 'z')}hook_{hook}"
    head, width = (1, network.cfg.d_head) if hook == "z" else (None, network.cfg.d_model)
    plain = network.last_logits(context)
    for edit in (
        ActivationEdit("", name, Tokens.all, head, alpha=0.0, vector=torch.arange(width) - 3.0),
        ActivationEdit("", name, Tokens.all, head, alpha=0.0, clamp=0.9),
        ActivationEdit("", name, Tokens.all, head, clamp=float(torch.tensor(0.3))),
    ):
        assert (Steered(network, edit).last_logits(context) - plain).abs().max() < 1e-6
    moved = ActivationEdit("", name, Tokens.all, head, vector=torch.arange(width) - 3.0)
    assert (Steered(network, moved).last_logits(context) - plain).abs().max() > 1e-3
    assert not network.has_hooks


@pytest.mark.parametrize("left", [False, True])
def test_the_whole_difference_of_embeddings_is_the_other_run(env, left):
    network = model(n_layers=2, left_padding=left)
    own, other = decision_contexts(network, env.decision, [0.0, 0.9])
    wanted = network.last_logits(other)
    tokens = ActivationEdit("", residual(0), Tokens.reward_to_go, clamp=0.9)
    assert (Steered(network, tokens).last_logits(own) - wanted).abs().max() < 1e-6
    row = ActivationEdit("", residual(0), Tokens.reward_to_go, vector=0.9 * network.embed.W_R[0])
    assert (Steered(network, row).last_logits(own) - wanted).abs().max() < 1e-5
    mixed = own[torch.tensor([1, 0, 3, 2])]
    whole = ActivationEdit("", residual(0), Tokens.all)
    donor = activations(network, mixed, residual(0))
    found = Steered(network, whole).last_logits(own, donor)
    assert (found - network.last_logits(mixed)).abs().max() < 1e-6


def test_an_edited_run_is_the_hooked_run(env):
    network = model(n_layers=3)
    context = decision_contexts(network, env.decision, [0.5])[0]
    for layer in range(3):
        vector = torch.randn(network.cfg.d_model, generator=torch.Generator().manual_seed(layer))
        edit = ActivationEdit("", residual(layer), Tokens.last_state, alpha=2.0, vector=vector)

        def add(value, hook, vector=vector):
            value = value.clone()
            value[:, -1] += 2 * vector
            return value

        wanted = network.run_with_hooks(context, fwd_hooks=[(residual(layer), add)])[:, -1]
        assert (Steered(network, edit).last_logits(context) - wanted).abs().max() < 1e-5
        start = activations(network, context, residual(layer))
        again = Steered(network, edit).last_logits(context, start=start)
        assert (again - wanted).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("tokens", "left", "right"),
    [
        (Tokens.last_state, [25], [13]),
        (Tokens.last_reward_to_go, [24], [12]),
        (Tokens.reward_to_go, list(range(0, 26, 3)), [0, 3, 6, 9, 12]),
        (Tokens.states, list(range(1, 26, 3)), [1, 4, 7, 10, 13]),
        (Tokens.first_state, [13], [1]),
        (Tokens.all, list(range(26)), list(range(14))),
    ],
)
def test_tokens_are_where_they_say(env, tokens, left, right):
    for padding, places in ((True, left), (False, right)):
        context = decision_contexts(model(n_layers=1, left_padding=padding), env.decision, [0.5])[0]
        assert [torch.nonzero(row).flatten().tolist() for row in mask(context, tokens)] == [
            places
        ] * 4


def test_a_condition_is_read_from_the_window(env):
    network = model(n_layers=1)
    context = decision_contexts(network, env.decision, [0.0])[0]
    ball = cell_names().index("ball (2,6)")
    assert shows(context, ball).tolist() == [False, False, True, True]
    edit = ActivationEdit("", residual(0), Tokens.reward_to_go, clamp=0.9, only_if=ball)
    change = (Steered(network, edit).last_logits(context) - network.last_logits(context)).abs()
    assert change[:2].max() < 1e-6 < 1e-3 < change[2:].max()


def test_windows_are_split_by_what_is_held_out(stage):
    network = model(n_layers=1)
    goal = stage.goals["rtg_only_if_key"]
    windows = WindowMaker(stage, network, stage.env.decision).windows(goal)
    training, held = (windows.part(CHANGE, held_out=h) for h in (False, True))
    rows = [pd.concat([b.table for b in part.batches]) for part in (training, held)]
    assert set(rows[0]["layout"]) == {"ball/left", "ball/right"} == set(rows[1]["layout"])
    assert set(rows[0]["reward_to_go"]) == {0.0, 0.2} and set(rows[0]["detour"]) == {""}
    assert ((rows[1]["detour"] == "left right") | rows[1]["reward_to_go"].isin([0.1, 0.3])).all()
    assert len(training) == 4 and len(held) == 12 and windows.distinct == len(windows)
    for batch in held.batches:
        like = network.last_logits(asked(batch.context, 0.892)).softmax(-1)
        assert (batch.wanted - like).abs().max() < 1e-6


def test_an_action_is_steered_to_from_where_the_model_takes_it(stage):
    network = model(n_layers=1)
    goal = stage.goals["always_look_back"]
    windows = WindowMaker(stage, network, stage.env.decision).windows(goal)
    there = towards(windows)
    assert len(there) == 2 and set(there.batches[0].table["layout"]) == {"key/left", "ball/left"}
    sites = (Site(layer=0, tokens=Tokens.last_state),)
    wanted = dataclasses.replace(stage, sites=sites, methods=(SteeringMethod.activation_addition,))
    ((_, edit),) = candidates(wanted, network, goal, windows)
    own = [activations(network, b.context, residual(0))[:, -1]
           for b in windows.part(CHANGE, held_out=False).batches]  # fmt: skip
    (far,) = [activations(network, b.context, residual(0))[:, -1] for b in there.batches]
    assert (edit.vector - (far.mean(0) - torch.cat(own).mean(0))).abs().max() < 1e-6


def test_rollouts_with_size_0_are_the_unsteered_ones(stage):
    network = model(n_layers=2)
    edit = ActivationEdit(
        "", residual(1), Tokens.last_state, alpha=0.0, vector=torch.ones(network.cfg.d_model)
    )
    for sampled in (True, False):
        pd.testing.assert_frame_equal(
            play(Steered(network, edit), stage.env, stage, sampled=sampled),
            play(network, stage.env, stage, sampled=sampled),
        )


def test_the_planted_models_reward_to_go_is_switched_off_by_asking(stage, planted):
    """Whatever layer it is done at: the model has no other switch, and random vectors do not find it."""
    wanted = only(
        stage,
        "rtg_off",
        methods=(SteeringMethod.reward_to_go_clamp, SteeringMethod.activation_addition),
    )
    wanted = dataclasses.replace(wanted, sites=(Site(layer=1, tokens=Tokens.last_state),))
    found = measure(wanted, planted, wanted.env)
    assert max(found.errors.values()) < 1e-4
    assert set(found.errors) == {NOTHING, PART, OWN, WHOLE, EPISODES}
    sites = found.tables["sites"].set_index("site")
    for site in ("R tokens", "L0H0", "MLP0", "before L1, last S"):
        assert sites.loc[site, "success"] == 1 and abs(sites.loc[site, "kl"]) < 1e-3, site
    others = [s for s in sites.index if s[0] == "L" and s != "L0H0"] + ["MLP1", "MLP2"]
    assert (sites.loc[[s for s in others if s[:2] in ("L0", "L2")], "success"] == 0).all()
    asks = found.tables["asks"].set_index("method").loc["activation_addition"]
    assert (asks["remaining"] < 0.01).all() and (asks["kl"] < 1e-3).all()  # at layer 1, by a vector
    assert asks["asked"].between(0.5, 1.2).all() and (asks["random_least"] > 0.5).all()
    result = result_of(wanted, found)
    claim = result.claim("rtg_off")
    assert result.established and claim.verdict is Verdict.DEPENDS, claim
    assert "before L1" in claim.evidence and "by asking for another reward-to-go" in claim.evidence
    assert claim.about is About.REWARD_TO_GO and claim.id in TRUTHS["steering"]
    assert result.metrics["rtg_off_unsteered_success"] == 0
    for check in found.errors:
        for error in (0.5, np.nan):
            wrong = dataclasses.replace(found, errors={**found.errors, check: error})
            broken = result_of(wanted, wrong)
            assert not broken.established and check in broken.summary
            assert broken.claim("rtg_off").verdict is Verdict.NOT_ESTABLISHED


def test_the_condition_keeps_reward_to_go_for_a_key(stage, planted):
    wanted = only(
        stage, "rtg_only_if_key", methods=(SteeringMethod.reward_to_go_clamp,), clamp_parts=False
    )
    found = measure(wanted, planted, wanted.env)
    sites = found.tables["sites"].set_index("site")
    assert sites.loc["R tokens if ball (2,6)", ["success", "kl"]].tolist() == pytest.approx([1, 0])
    assert sites.loc["R tokens", "kl"] > 0.5  # it takes the key's reward-to-go away, too
    played = found.tables["rollouts"]
    played = played[(played["method"] == "reward_to_go_clamp") & (played["target"] == 0)]
    assert (played["greedy_return"] > 0.4).tolist() == [False, False, True, True]
    # A condition of ours on a reward-to-go of ours: nothing of the model.
    claim = result_of(wanted, found).claim("rtg_only_if_key")
    assert claim.verdict is Verdict.DEPENDS and "by asking" in claim.evidence


def test_a_model_that_does_it_already_is_no_success(stage, planted):
    with torch.no_grad():
        planted.embed.W_R.zero_()  # reward-to-go says nothing any more
    wanted = only(stage, "rtg_off", methods=(SteeringMethod.reward_to_go_clamp,), clamp_parts=False)
    (claim,) = result_of(wanted, measure(wanted, planted, wanted.env)).claims
    assert claim.verdict is Verdict.NOT_APPLICABLE
    assert claim.evidence.startswith("nothing to steer")


def test_an_edit_that_moves_nothing_is_not_reported_as_an_edit_without_effect(stage, planted):
    """The embedding of a cell that the planted model does not read: the vector is 0."""
    with torch.no_grad():
        planted.embed.W_S[cell_names().index("lava (0,0)")] = 0.0
    arithmetic = dataclasses.replace(
        stage.arithmetic["ask_more"], reward_to_go=0.0, cells={"lava (0,0)": 1.0}
    )
    one = only(
        stage,
        "rtg_off",
        methods=(SteeringMethod.embedding_arithmetic,),
        arithmetic={"lava": arithmetic},
    )
    found = result_of(one, measure(one, planted, one.env))
    assert (found.tables["sites"]["moved"] == 0).all()
    claim = found.claim("rtg_off")
    assert claim.verdict is Verdict.NOT_ESTABLISHED
    assert claim.evidence.startswith("nothing was steered: embedding arithmetic at lava, R")


def test_a_behaviour_clone_has_no_reward_to_go_to_steer(stage):
    clone = model(n_layers=1, reward_to_go=False)
    wanted = only(stage, "rtg_off")
    found = measure(wanted, clone, wanted.env)
    assert set(found.tables["sites"]["method"]) <= {
        "activation_addition",
        "optimised",
        "embedding_arithmetic",
    }
    assert not found.tables["sites"]["site"].str.contains("R").any()
    result = result_of(wanted, found)
    assert [claim.verdict for claim in result.claims] == [Verdict.NOT_APPLICABLE]
    assert not found.tables["asks"].size


def test_descent_lowers_the_loss_and_random_vectors_have_its_norm(stage):
    network = model(n_layers=2).requires_grad_(False)
    descent = dataclasses.replace(
        stage.descent, steps=30, sites=(Site(layer=1, tokens=Tokens.last_state),)
    )
    wanted = only(stage, "always_look_back", methods=(SteeringMethod.optimised,), descent=descent)
    goal = wanted.goals["always_look_back"]
    windows = WindowMaker(wanted, network, wanted.env.decision).windows(goal)
    ((_, edit),) = candidates(wanted, network, goal, windows)
    change = windows.part(CHANGE, held_out=False)

    def chance(found):
        parts = [
            Steered(network, found).last_logits(b.context).softmax(-1)[:, Action.left.number]
            for b in change.batches
        ]
        return float(torch.cat(parts).mean())

    assert chance(edit) > chance(edit.at(0.0)) + 0.2
    control = random_like(edit, network, torch.Generator().manual_seed(0))
    assert float(control.vector.norm()) == pytest.approx(float(edit.vector.norm()), rel=1e-5)
    assert chance(control) < chance(edit)


def test_stage_writes_tables_figures_and_verdicts(store, experiment_of, stage, tiny):
    wanted = dataclasses.replace(
        stage, dt=tiny, dataset=tiny.dataset, demonstrations=8, clamp_parts=False,
        sites=(Site(layer=0, tokens=Tokens.last_state),),
        descent=dataclasses.replace(stage.descent, sites=(Site(layer=0, tokens=Tokens.last_state),)),
    )  # fmt: skip
    goals = {"always_look_back": stage.goals["always_look_back"]}
    methods = (SteeringMethod.reward_to_go_clamp, SteeringMethod.optimised)
    wanted = dataclasses.replace(wanted, goals=goals, methods=methods)
    run(experiment_of(wanted))
    numbers = read_metrics(wanted.path)
    assert numbers["steering/identity_error"] < 1e-4 and numbers["steering/distinct_inputs"] > 100
    scan = pd.read_parquet(wanted.path / "tables" / "scan.parquet")
    at_zero = scan[scan["alpha"] == 0]
    assert at_zero.groupby("reward_to_go")["success"].nunique().eq(1).all()
    assert scan["success"].between(0, 1).all() and (scan["low"] == scan["high"]).all()
    effects = pd.read_parquet(wanted.path / "tables" / "side_effects.parquet")
    assert (effects["kl"] >= 0).all() and effects["reward_to_go"].nunique() == 2
    controls = pd.read_parquet(wanted.path / "tables" / "controls.parquet")
    assert controls.groupby("method").size().eq(20).all()
    played = pd.read_parquet(wanted.path / "tables" / "rollouts.parquet")
    assert np.allclose(played[["success", "wrong", "truncated"]].sum(axis=1), 1)
    assert UNSTEERED in set(played["method"]) and played["method"].str.startswith(RANDOM).any()
    assert {"n", "interval"} <= set(played.columns) & set(scan.columns)
    result = wanted.result()
    assert len(result.controls) == 1 and "look back" in wanted.summary()
    assert result.claim("always_look_back").about is About.MODEL and len(result.claims) == 1
    for name in ("steering.png", "steering_rollouts.png"):
        assert (wanted.path / "figures" / name).stat().st_size > 10_000


@pytest.mark.slow
def test_goals_on_pairs_need_no_routine(store, experiment_of, stage):
    pairs = build_group("pairs/memory", ["pairs.dataset=null"])
    run(experiment_of(pairs))
    goal = dataclasses.replace(
        stage.goals["rtg_off"], change=(), keep=(), like=None, pairs="rtg_zero", play=Play.return_
    )
    wanted = dataclasses.replace(stage, goals={"as_clean": goal}, pairs=pairs)
    assert not list(wanted.check())
    network = model(n_layers=1)
    windows = WindowMaker(wanted, network, None, pairs.load()).windows(goal)
    assert len(windows.part(KEEP)) and len(windows.part(CHANGE))
    wanted = dataclasses.replace(
        wanted,
        methods=(SteeringMethod.activation_addition,),
        sites=(Site(layer=0, tokens=Tokens.reward_to_go),),
    )
    found = measure(wanted, network, wanted.env, pairs.load())
    assert max(found.errors.values()) < 1e-4


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"alphas": (1.0, 2.0)}, "alphas"),
        ({"methods": ()}, "methods"),
        ({"controls": 19}, "controls"),
        ({"demonstrations": 4}, "dataset"),
        ({"low": 0.9}, "high"),
        ({"env": build_group("env/door_key")}, "goals.rtg_off"),
    ],
)
def test_impossible_values_are_named(stage, change, field):
    wrong = dataclasses.replace(stage, **change)
    assert field in [name for name, _ in (*wrong.check(), *problems(wrong))]


def test_goals_that_want_nothing_or_two_things_are_refused(stage):
    goal = stage.goals["rtg_off"]
    for changes in ({"like": None}, {"action": Action.left}, {"pairs": "rtg_zero"}):
        wrong = dataclasses.replace(stage, goals={"g": dataclasses.replace(goal, **changes)})
        assert any("exactly one" in message for _, message in wrong.check())
    place = dataclasses.replace(goal.change[0], layouts=("door/left",))
    wrong = dataclasses.replace(stage, goals={"g": dataclasses.replace(goal, change=(place,))})
    assert any("no layout" in message for _, message in wrong.check())


def test_a_place_that_cannot_be_reached_is_told(stage):
    goal = stage.goals["rtg_off"]
    place = dataclasses.replace(goal.change[0], steps=6)
    with pytest.raises(UserError, match="ends the episode"):
        WindowMaker(stage, model(n_layers=1), stage.env.decision).windows(
            dataclasses.replace(goal, change=(place,))
        )
