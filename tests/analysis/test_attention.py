import dataclasses

import numpy as np
import pandas as pd
import pytest

from dtx.analysis.attention import Attention
from dtx.analysis.attention import compute as computing
from dtx.analysis.attention.compute import (
    by_kind,
    patterns,
    specificity,
    switching,
    total_variation,
    uniform,
)
from dtx.analysis.core.analysis import Need
from dtx.analysis.core.result import About, Verdict
from dtx.analysis.core.windows import join, tokens_of
from dtx.config.ranges import problems
from dtx.dt.rollout import decision_contexts
from dtx.env.minigrid import MiniGrid
from dtx.report import read_metrics
from dtx.run.runner import run
from tests.analysis.core.test_windows import model


@pytest.fixture
def stage(env, tiny) -> Attention:
    return Attention(
        env=env, dt=tiny, checkpoint=None, targets=(0.0, 0.5, 0.9), low=0.0, high=0.9,
        untrained=2, margin=0.1, resamples=100, seed=0,
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
    assert result.claim("reward_to_go_moves_attention").verdict is Verdict.NOT_CONFIRMED


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
    assert "layer 0" in stage.summary() and "not established" not in stage.summary()
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
        ({"untrained": 0}, "untrained"),
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
    monkeypatch.setattr(computing, "patterns", lambda *given: broken(patterns(*given)))
    result = computing.compute(stage, model(), env.decision)
    assert not result.established and name in result.summary
    assert {claim.verdict for claim in result.claims} == {Verdict.NOT_ESTABLISHED}


def test_claims_about_reward_to_go_are_marked(env, stage):
    result = computing.compute(stage, model(), env.decision)
    about = [claim.about for claim in result.claims]
    assert result.established and about == [About.MODEL, About.REWARD_TO_GO, About.REWARD_TO_GO]
