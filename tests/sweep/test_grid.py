"""Sweeps read in one process: the same jobs as Hydra's, quickly, with every error told once."""

import pytest
from omegaconf import OmegaConf

from dtx.config.build import ConfigError
from dtx.config.compose import compose, experiment
from dtx.errors import UserError
from dtx.sweep.grid import read_sweep

GRIDS = [
    ["dt.seed=0,1,2", "dataset.episodes=100,200"],
    ["dt=small,memory_dt", "dt.steps=choice(100,200)", "seed=range(2)"],
    ["experiment=quickstart,memory_dt_study", "analysis.calibration.targets=[0,0.9],[0,0.5,0.9]"],
    ["agent.lr=1e-3,5e-4", "dt.model.d_model=16", "name=a,b", "++dt.steps=100,200"],
    ["analysis=[calibration],[demonstrations,calibration]", "env.max_steps=10,20"],
    ["dt.optimiser={warm_up:1},{warm_up:2}", "dt.optimiser.weight_decay=0"],
    ["dt.seed=${seed},5", "seed=3"],
]


@pytest.mark.parametrize("overrides", GRIDS, ids=lambda o: o[0])
def test_jobs_are_what_hydra_composes(overrides):
    sweep = read_sweep(overrides)
    assert len(sweep.jobs) > 1
    for job in sweep.jobs:
        assert not job.error
        slow = experiment(compose(job.overrides))
        assert job.experiment.targets == slow.targets
        assert job.experiment.name == slow.name
        whole = OmegaConf.to_container(compose(job.overrides))
        assert job.experiment.raw == whole


def test_swept_fields_are_told_apart_from_fixed_ones():
    sweep = read_sweep(["dt.seed=0,1", "dt.steps=7", "hydra.sweep.dir=x"])
    assert sweep.swept == ("dt.seed",)
    assert [j.swept for j in sweep.jobs] == [{"dt.seed": "0"}, {"dt.seed": "1"}]
    assert sweep.hydra == ("hydra.sweep.dir=x",)
    assert sweep.jobs[1].name == "dt.seed=1"


def test_stages_are_counted_once():
    sweep = read_sweep(["dt.seed=0,1,2", "target=dt"])
    names = [step.stage.name for step in sweep.plan()]
    assert sorted(names) == ["decision_transformer"] * 3 + ["ppo", "rollouts"]


def test_equal_sweeps_have_one_identity_whatever_the_order():
    a, b = read_sweep(["dt.seed=0,1"]), read_sweep(["dt.seed=1,0", "tracking.enabled=false"])
    assert a.identity == b.identity != read_sweep(["dt.seed=0,2"]).identity


def test_a_wrong_value_costs_only_its_jobs():
    sweep = read_sweep(["dt.seed=0,x", "dt.steps=100,200"])
    assert [bool(j.experiment) for j in sweep.jobs] == [True, True, False, False]
    assert "dt.seed: a whole number is wanted, not 'x'" in sweep.jobs[2].error


def test_a_wrong_name_is_explained_once_for_a_thousand_jobs(capsys):
    sweep = read_sweep(["dt.sede=range(1000)"])
    assert len(sweep.jobs) == 1000
    assert sweep.print_errors() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "dt.sede: no such field (did you mean 'seed'?)" in line and "999 more" in line
    with pytest.raises(UserError, match="did you mean 'seed'"):
        _ = sweep.first


@pytest.mark.parametrize("overrides", [["dt.seed=0,1", "seed=[1"], ["dt.seed=0,1", "seed"]])
def test_unreadable_overrides_are_refused_whole(overrides):
    with pytest.raises(ConfigError) as error:
        read_sweep(overrides)
    assert overrides[1] in str(error.value)


def test_a_thousand_jobs_are_planned():
    sweep = read_sweep(["dt.seed=range(10)", "dt.steps=range(100,110)", "dataset.seed=range(10)"])
    steps = sweep.plan()
    assert len(sweep.jobs) == 1000
    assert sum(s.stage.name == "rollouts" for s in steps) == 10
    assert sum(s.stage.name == "calibration" for s in steps) == 1000
