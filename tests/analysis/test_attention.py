import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from dtx.analysis.attention import Attention
from dtx.analysis.attention import compute as computing
from dtx.analysis.attention.patterns import (
    attended,
    by_kind,
    patterns,
    specificity,
    total_variation,
    uniform,
)
from dtx.analysis.attention.tables import switching
from dtx.analysis.core.analysis import Need
from dtx.analysis.core.result import About, Verdict
from dtx.analysis.core.windows import join, tokens_of
from dtx.config.ranges import problems
from dtx.dt.load import untrained_like
from dtx.dt.rollout import decision_contexts
from dtx.env.minigrid import MiniGrid
from dtx.report import read_metrics
from dtx.running.runner import run
from tests.analysis.core.test_windows import model


@pytest.fixture
def stage(env, tiny) -> Attention:
    return Attention(
        env=env, dt=tiny, checkpoint=None, targets=(0.0, 0.5, 0.9), low=0.0, high=0.9,
        threshold=0.1, untrained=19, margin=0.1, seed=0,
    )  # fmt: skip


@pytest.mark.parametrize("left", [False, True])
def test_rows_add_to_one_and_kinds_to_rows(env, left):
    network = model(left_padding=left)
    context = join(decision_contexts(network, env.decision, [0.0, 0.9]))
    pattern = patterns(network, context, (2, 4))
    assert pattern.shape == (2, 4, 2, 2, context.shape[1], context.shape[1])
    assert np.abs(pattern.sum(-1) - 1).max() < 1e-6
    assert not np.triu(pattern, 1).any()
    tokens = tokens_of(context, network.cfg)
    assert np.abs(by_kind(pattern, tokens).sum(-1) - 1).max() < 1e-6
    _, cache = network.run_with_cache(context[5])
    assert np.allclose(pattern[1, 1, 1], cache["blocks.1.attn.hook_pattern"][0], atol=1e-6)


def test_even_attention_is_not_specific(env):
    network = model()
    tokens = tokens_of(decision_contexts(network, env.decision, [0.9])[0], network.cfg)
    even = uniform(len(tokens.names))
    assert specificity(even, tokens).max() < 1e-12
    assert by_kind(even, tokens)[2].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])
    first = np.zeros_like(even)
    first[:, 0] = 1  # all look at R1
    assert specificity(first, tokens)[5] == pytest.approx(1 - 2 / 6)


def test_total_variation_counts_moved_mass():
    pattern = np.zeros((2, 1, 1, 1, 2, 2))
    pattern[0, ..., 0], pattern[1, ..., 0] = 1, [1, 0.25]
    pattern[1, ..., 1, 1] = 0.75
    assert total_variation(pattern, 0)[1].ravel().tolist() == [0, 0.75]
    assert not total_variation(pattern, 0)[0].any()


def test_reward_to_go_moves_nothing_in_a_clone(store, experiment_of, stage, tiny):
    clone = dataclasses.replace(tiny, reward_to_go=False)
    run(experiment_of(clone))
    result = dataclasses.replace(stage, dt=clone).compute()
    assert result.tables["moved"].total_variation.max() == 0
    assert not (result.tables["modality"]["query"] == "R").any()
    assert result.distinct_inputs == 4
    for name in ("reward_to_go_moves_attention", "switches_to_reward_to_go"):
        claim = result.claim(name)
        assert claim.verdict is Verdict.NOT_APPLICABLE
        assert claim.evidence == "the model has no reward-to-go"


def test_a_head_that_switches_is_found(stage):
    rows = [
        (0, head, target, query, *seen)
        for head, low, high in ((0, (0.1, 0.8), (0.7, 0.2)), (1, (0.4, 0.45), (0.7, 0.2)))
        for target, seen in ((0.0, low), (0.9, high))
        for query in "SA"
    ]
    columns = ["layer", "head", "target", "query", "to_instruction", "to_reward_to_go"]
    looks = pd.DataFrame(rows, columns=columns)
    assert switching(stage, looks) == [(0, 0, "A"), (0, 0, "S")]


def test_stage_writes_tables_figures_and_verdicts(store, experiment_of, stage):
    run(experiment_of(stage))
    numbers = read_metrics(stage.path)
    assert numbers["attention/identity_error"] < 1e-5
    assert numbers["attention/distinct_inputs"] == 12
    maps = pd.read_parquet(stage.path / "tables" / "maps.parquet")
    sums = maps.groupby(["layer", "head", "target", "layout", "query"]).attention.sum()
    assert np.abs(sums - 1).max() < 1e-5
    modality = pd.read_parquet(stage.path / "tables" / "modality.parquet")
    by_query = modality.groupby(["layer", "head", "target", "layout", "query"])
    for column in ("attention", "uniform", "untrained"):
        assert np.abs(by_query[column].sum() - 1).max() < 1e-5
    assert "layer 0" in stage.summary()
    heads = pd.read_parquet(stage.path / "tables" / "heads.parquet")
    assert len(heads) == 2 * 2 and set(heads.interval) == {"all 4 layouts"}
    for name in ("modality.png", "moved.png", "maps.png", "attention.html"):
        assert (stage.path / "figures" / name).stat().st_size > 4000
    again = {f"attention/{name}": value for name, value in stage.compute().metrics.items()}
    assert again == numbers  # the same again
    page = (stage.path / "figures" / "attention.html").read_text()
    assert "http" not in page and "__" not in page


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"low": 0.3}, "low"),
        ({"low": 0.9, "high": 0.5}, "high"),
        ({"untrained": 18}, "untrained"),
        ({"threshold": 0.7}, "threshold"),
        ({"margin": 2.0}, "margin"),
        ({"checkpoint": -1}, "checkpoint"),
        ({"targets": ()}, "targets"),
    ],
)
def test_impossible_values_are_named(stage, change, field):
    wrong = dataclasses.replace(stage, **change)
    assert field in [name for name, _ in (*problems(wrong), *wrong.check())]


def test_an_environment_without_a_decision_is_refused(stage):
    empty = MiniGrid(id="MiniGrid-Empty-5x5-v0", max_steps=20, backend="auto")
    (missing,) = dataclasses.replace(stage, env=empty).missing()
    assert missing == ("env", Need.DECISION.problem(empty))
    assert not list(stage.missing())


@pytest.mark.parametrize(
    ("broken", "name"),
    [
        (lambda pattern: pattern * 4, "each token's attention adds up to 1"),
        (lambda pattern: pattern[..., ::-1].copy(), "no attention goes to later tokens"),
    ],
)
def test_a_broken_identity_is_not_established(env, stage, monkeypatch, broken, name):
    def attend(*given):
        found = attended(*given)
        return dataclasses.replace(found, pattern=broken(found.pattern))

    monkeypatch.setattr(computing, "attended", attend)
    result = computing.compute(stage, model(), env.decision)
    assert not result.established and name in result.summary
    assert {claim.verdict for claim in result.claims} == {
        Verdict.NOT_ESTABLISHED,
        Verdict.NOT_APPLICABLE,  # reward-to-go changes nothing in it
    }


def test_claims_about_reward_to_go_are_marked(env, stage):
    result = computing.compute(stage, model(), env.decision)
    about = [claim.about for claim in result.claims]
    assert about == [About.MODEL, About.REWARD_TO_GO, About.REWARD_TO_GO]


# --- effects -----------------------------------------------------------------------------------------


def seen(network, env, targets=(0.0, 0.9)):
    context = join(decision_contexts(network, env.decision, targets))
    return context, attended(network, context, (2, 4), (0, 1))


def test_an_effect_is_one_head_exchanged_at_a_time(env):
    network = model()
    context, found = seen(network, env)
    with torch.no_grad():
        before, cache = network.run_with_cache(context)
    own = before[:, -1].double().numpy()
    for layer, head in ((0, 1), (1, 0)):
        name = f"blocks.{layer}.attn.hook_pattern"
        even = torch.from_numpy(uniform(context.shape[1])).float()
        for kind, instead in (
            ("even", even.expand(8, -1, -1)),
            ("moved", cache[name][[4, 5, 6, 7, 0, 1, 2, 3], head]),
        ):

            def put(value, hook, instead=instead, head=head):
                value = value.clone()
                value[:, head] = instead
                return value

            with torch.no_grad():
                after = network.run_with_hooks(context, fwd_hooks=[(name, put)])[:, -1]
            move, own_ = (
                x - x.mean(-1, keepdims=True) for x in (after.double().numpy() - own, own)
            )
            want = np.sqrt((move**2).sum(-1).reshape(2, 4).mean(1))
            want = want / np.sqrt((own_**2).sum(-1).reshape(2, 4).mean(1))
            assert getattr(found, kind)[:, layer, head] == pytest.approx(want, rel=1e-3)


def test_a_head_that_writes_nothing_has_no_effect_however_it_attends(env):
    network = model()
    with torch.no_grad():
        network.blocks[0].attn.W_O[1] = 0
        network.blocks[0].attn.W_Q[1] *= 30  # a sharp pattern
    _, found = seen(network, env)
    assert found.even[:, 0, 1].max() < 1e-6 and found.moved[:, 0, 1].max() < 1e-6
    assert found.even[:, 0, 0].min() > 1e-3


def test_twice_the_logits_have_the_same_effect(env):
    network = model()
    _, once = seen(network, env)
    with torch.no_grad():
        network.unembed.W_U *= 2
        network.unembed.b_U *= 2
    _, twice = seen(network, env)
    assert np.allclose(once.even, twice.even, rtol=1e-3)
    assert twice.divergence > once.divergence


def test_sharp_attention_without_an_effect_is_no_finding(env, stage):
    """Every head looks at one token and writes nothing: patterns of the study's kind, without a use."""
    network = model()
    with torch.no_grad():
        for block in network.blocks:
            block.attn.W_Q *= 30
            block.attn.W_O *= 0
    result = computing.compute(stage, network, env.decision)
    heads = result.tables["heads"]
    assert heads.specificity.max() > 0.3 and not heads.matters.any()
    assert not result.established and not any(c.verdict.states for c in result.claims)


def test_a_planted_model_looks_with_an_effect(env, stage):
    from tests.analysis.test_ablation import planted

    for network in (planted(), planted("dt.distractor_heads=9"), planted("dt.layer_norm=true")):
        result = computing.compute(stage, network, env.decision)
        assert result.established
        assert result.claim("specific_to_modalities").verdict.states
        # Its heads look at fixed tokens; distractors are moved, but nobody reads them.
        assert not result.claim("reward_to_go_moves_attention").verdict.states
        heads = result.tables["heads"].set_index(["target", "layer", "head"])
        assert heads.loc[(0.9, 0, 0), "matters"] and heads.loc[(0.9, 1, 0), "effect_even"] > 0.5
        assert heads.loc[(0.9, 0, 1), "effect_even"] < 1e-3


def test_untrained_models_make_no_statement(env, stage):
    few = dataclasses.replace(stage, targets=(0.0, 0.9))
    stated, claims = 0, 0
    for seed in range(6):
        network = untrained_like(model(), seed)
        result = computing.compute(few, network, env.decision)
        stated += sum(claim.verdict.states for claim in result.claims)
        claims += len(result.claims)
    assert stated <= 0.05 * claims
