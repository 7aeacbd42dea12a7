import dataclasses

import numpy as np
import pandas as pd
import pytest

from dtx.analysis.demonstrations import Demonstrations
from dtx.analysis.demonstrations.audit import audit
from dtx.analysis.demonstrations.compute import compute, duplication, points
from dtx.config.ranges import problems
from dtx.dataset.episodes import Episodes, Outcome
from dtx.report import read_metrics
from dtx.running.runner import run


@pytest.fixture
def episodes(store, experiment_of, rollouts) -> Episodes:
    run(experiment_of(rollouts))
    return rollouts.load()


@pytest.fixture
def stage(rollouts, tiny) -> Demonstrations:
    return Demonstrations(dataset=rollouts, dt=tiny, audited_windows=50, seed=0)


def reader(dt):
    """How a model reads windows, and how they are drawn."""
    return dt.model_config(), dt.windows


def violations(table: pd.DataFrame) -> set[str]:
    return set(table[table.violations > 0].check)


def test_sound_demonstrations_pass_in_both_paddings(episodes, env, tiny):
    table = audit(episodes, env.horizon, *reader(tiny), count=200, seed=0)
    assert not violations(table)
    assert (table.compared > 0).all()
    assert table.check.str.contains("left padding").sum() == 4
    assert table.check.str.contains("right padding").sum() == 4


@pytest.mark.parametrize(
    ("field", "harm", "check"),
    [
        ("reward", lambda x: x * 0.5, "a success is worth"),
        ("outcome", lambda x: np.zeros_like(x), "a success is worth"),
        ("outcome", lambda x: np.full_like(x, 2), "a truncated episode lasts max_steps"),
    ],
)
def test_each_harm_is_found(episodes, env, tiny, field, harm, check):
    broken = dataclasses.replace(episodes, **{field: harm(np.array(getattr(episodes, field)))})
    found = violations(audit(broken, env.horizon, *reader(tiny), count=20, seed=0))
    assert any(check in f for f in found), found
    result = compute(broken, env.horizon, *reader(tiny), audited=20, seed=0)
    assert not result.established and result.metrics["audit_passed"] == 0
    assert any(check in c.name for c in result.checks if not c.holds)
    assert result.metrics["identity_error"] > 0 and "check failed" in result.summary


def test_what_has_no_instance_is_no_check(episodes, env, tiny):
    """Without a truncated episode nothing is checked of truncated ones."""
    short = dataclasses.replace(
        episodes, outcome=np.where(episodes.outcome == Outcome.TRUNCATED, 1, episodes.outcome)
    )
    result = compute(short, env.horizon, *reader(tiny), audited=20, seed=0)
    assert result.established
    assert not any("truncated" in check.name for check in result.checks)


def test_points_are_all_episodes(episodes):
    table = points(episodes)
    assert table.episodes.sum() == len(episodes.start)
    for outcome in Outcome:
        rows = table[table.outcome == outcome.name.lower()]
        chosen = episodes.outcome == outcome
        assert (rows.length * rows.episodes).sum() == episodes.length[chosen].sum()
        assert (rows["return"] * rows.episodes).sum() == pytest.approx(
            episodes.returns[chosen].sum(dtype=float)
        )
    assert not table.duplicated(["outcome", "length", "return"]).any()


def test_windows_that_lie_are_found(episodes, env, tiny, monkeypatch):
    from dtx.dt import windows

    true = windows.Sampler.context

    def shifted(self, drawn):
        context, action, real = true(self, drawn)
        return context, action.roll(1, 1), real

    monkeypatch.setattr(windows.Sampler, "context", shifted)
    assert any(
        "actions" in f
        for f in violations(audit(episodes, env.horizon, *reader(tiny), count=50, seed=0))
    )


def test_duplication_counts(episodes):
    rows = dict(duplication(episodes).itertuples(index=False))
    assert rows["unique_observations"] == len(episodes.observations)
    assert 1 < rows["unique_episodes"] <= len(episodes.start)
    assert rows["split_overlap_by_observation"] == 0
    twice = dataclasses.replace(episodes, observations=np.repeat(episodes.observations, 2, axis=0))
    assert dict(duplication(twice).itertuples(index=False))["split_overlap_by_observation"] == 1
    same = dataclasses.replace(episodes, split=np.array(episodes.split))
    same.split[:] = 0
    assert dict(duplication(same).itertuples(index=False))["split_overlap"] == 0


def test_stage_writes_figure_tables_and_checks(store, experiment_of, rollouts, stage):
    run(experiment_of(stage))
    result = stage.result()
    assert result.established and len(result.checks) == 15
    assert all(check.error == 0 and check.tolerance == 0 for check in result.checks)
    assert "distinct episodes" in stage.summary()
    numbers = read_metrics(stage.path)
    assert numbers["demonstrations/audit_passed"] == 1
    assert numbers["demonstrations/identity_error"] == 0
    assert numbers["demonstrations/distinct_inputs"] == numbers["demonstrations/unique_episodes"]
    table = pd.read_parquet(stage.path / "tables" / "outcomes.parquet")
    assert table[table.temperature == "all"].episodes.sum() == rollouts.episodes
    for name in ("demonstrations.png", "demonstrations.html"):
        assert (stage.path / "figures" / name).stat().st_size > 10_000


def test_impossible_values_are_named(stage):
    wrong = dataclasses.replace(stage, audited_windows=0, seed=-1)
    assert [name for name, _ in problems(wrong)] == ["audited_windows", "seed"]
