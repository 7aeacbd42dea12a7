import dataclasses

import numpy as np
import pandas as pd
import pytest

from dtx.analysis.demonstrations import Demonstrations
from dtx.analysis.demonstrations.audit import audit, duplication
from dtx.dataset.episodes import Episodes
from dtx.run.runner import run


@pytest.fixture
def episodes(store, experiment_of, rollouts) -> Episodes:
    run(experiment_of(rollouts))
    return rollouts.load()


def violations(table: pd.DataFrame) -> set[str]:
    return set(table[table.violations > 0].check)


def test_sound_demonstrations_pass_in_both_paddings(episodes, env, tiny):
    table = audit(episodes, env.horizon, tiny, windows=200, seed=0)
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
    found = violations(audit(broken, env.horizon, tiny, windows=20, seed=0))
    assert any(check in f for f in found), found


def test_windows_that_lie_are_found(episodes, env, tiny, monkeypatch):
    from dtx.dt import windows

    true = windows.Sampler.context

    def shifted(self, drawn):
        context, action, real = true(self, drawn)
        return context, action.roll(1, 1), real

    monkeypatch.setattr(windows.Sampler, "context", shifted)
    assert any(
        "actions" in f for f in violations(audit(episodes, env.horizon, tiny, windows=50, seed=0))
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


def test_stage_writes_figure_tables_and_verdict(store, experiment_of, rollouts, tiny):
    stage = Demonstrations(dataset=rollouts, dt=tiny, audited_windows=50, seed=0)
    run(experiment_of(stage))
    assert "audit passed" in stage.summary()
    table = pd.read_parquet(stage.path / "tables" / "outcomes.parquet")
    assert table[table.temperature == "all"].episodes.sum() == rollouts.episodes
    for name in ("demonstrations.png", "demonstrations.html"):
        assert (stage.path / "figures" / name).stat().st_size > 10_000
