"""What does not fit on this machine is refused before anything runs; estimates against what was measured."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from dtx.beside import free_disk
from dtx.cli import main
from dtx.config.compose import OnShortage, compose, experiment
from dtx.errors import UserError
from dtx.resources import Resources
from dtx.running import plan, room
from dtx.running.runner import run
from dtx.stage import Stage
from tests.fast import FAST
from tests.toys import Number


@dataclass(frozen=True, kw_only=True)
class Large(Number):
    """A number that says how much it needs."""

    memory: float = 0.0
    disk: float = 0.0
    seconds: float = 0.0
    gpus: int = 0

    def resources(self) -> Resources:
        return Resources(
            memory={"memory": self.memory},
            disk={"disk": self.disk},
            seconds=self.seconds,
            gpus=self.gpus,
        )


SHORT = [
    (
        Large(value=1, memory=1e20),
        r": needs about 100 EB of memory, .* lower memory",
    ),
    (Large(value=1, disk=1e20), r"writes about 100 EB, .* are free in .*; lower disk"),
    (Large(value=1, gpus=10_000), r"10000 GPU\(s\) are wanted and \d+ are here"),
]


@pytest.mark.parametrize(("stage", "told"), SHORT)
def test_what_does_not_fit_is_refused_unless_it_is_to_be_tried(
    store, experiment_of, tmp_path, capsys, stage, told
):
    what = experiment_of(Number(value=2), stage)
    with pytest.raises(UserError, match=told) as refused:
        run(what)
    assert str(refused.value).endswith("to try all the same: resources=ignore")
    assert "\n" not in str(refused.value)
    assert not store.root.exists() or not list(store.root.glob("*-*"))
    run(dataclasses.replace(what, resources=OnShortage.IGNORE))
    assert store.has(stage) and "warning" in capsys.readouterr().err
    run(what)  # what is there needs nothing


def test_the_disk_must_hold_all_stages_to_run_together(store, experiment_of):
    each = free_disk(store.root) * 0.6
    one, two = Large(value=1, disk=each), Large(value=2, disk=each)
    run(experiment_of(one))
    run(experiment_of(two))
    for stage in (one, two):
        store.invalidate(stage.label)
    with pytest.raises(UserError, match="all stages to run together"):
        run(experiment_of(one, two))


def test_time_alone_refuses_nothing_but_a_year_is_told(store, experiment_of, capsys):
    run(experiment_of(Large(value=1, seconds=room.YEAR * 20)))
    assert "20 years of work: more than a year on one core" in capsys.readouterr().err
    run(experiment_of(Large(value=2, seconds=room.YEAR / 2)))
    assert "year" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["memory.max", "memory.limit_in_bytes"])
def test_a_containers_limit_counts(tmp_path, monkeypatch, name):
    machine = room.memory_of_machine()
    monkeypatch.setattr(room, "_CGROUPS", tmp_path)
    for folder in {tmp_path, tmp_path / "memory"}:
        folder.mkdir(exist_ok=True)
        (folder / name).write_text("max\n")
    assert room.memory_of_machine() >= machine
    for folder in (tmp_path, tmp_path / "memory"):
        (folder / name).write_text(f"{10**9}\n")
    assert room.memory_of_machine() == 1e9


# --- how long ----------------------------------------------------------------------------------------


def test_the_time_of_a_run_is_scaled_by_how_much_more_there_is_to_do(store, experiment_of):
    before, more = Large(value=1, seconds=10), Large(value=1, seconds=30)
    run(experiment_of(before))
    store.amend(before, {"seconds": 4.0})
    (step,) = plan.plan([more], store)
    assert step.seconds == pytest.approx(12)


def test_a_record_without_an_estimate_says_nothing_of_something_far_larger(store, experiment_of):
    """As those of before estimates were recorded."""
    run(experiment_of(Large(value=1)))
    record = {"seconds": 4.0, "estimate": None}
    store.amend(Large(value=1), record)
    assert [plan.plan([s], store)[0].seconds for s in (Large(value=2, seconds=9),)] == [4.0]
    assert plan.plan([Large(value=2, seconds=1e12)], store)[0].seconds == 1e11


def test_without_a_run_the_sizes_say_it(store):
    steps = plan.plan([Large(value=1, seconds=120.0, memory=1e9, disk=1e7)], store)
    said = "about 2 min of work, by sizes; at most 1.4 GB of memory, 10 MB of disk"
    assert plan.estimate(steps) == said


# --- estimates of dtx's own stages -------------------------------------------------------------------

MEASURED = {
    "PPO": (582, 1.1, 78),
    "Rollouts": (448, 3.8, 10),
    "DecisionTransformer": (2083, 83.8, 348),
    "Calibration": (1798, 5.0, 64),
    "Psychology": (839, 0.7, 11),
    "Attention": (839, 3.8, 7),
    "Attribution": (839, 5.1, 1),
    "Congruence": (839, 0.4, 1),
    "Declared": (389, 0.15, 0.5),
    "ActivationPatching": (970, 6.2, 9),
    "SmallestCircuit": (585, 0.3, 67),
    "Steering": (1071, 0.3, 141),
    "Teacher": (970, 0.1, 7),
}
"""Of the stages of ``experiment=memory_dt_claims`` (2026-11-30, 2 cores, 10 to 25 runs each): the smallest
peak of the process in MB, which holds what ran before in it, too; MB on disk and seconds, medians."""


@pytest.fixture(scope="module")
def claims() -> dict[str, Stage]:
    overrides = ["experiment=memory_dt_claims"]
    everything = plan.stages(experiment(compose(overrides)).targets.values())
    trained = [s for s in everything if getattr(s, "steps", 1000) >= 1000]
    return {type(stage).__name__: stage for stage in reversed(trained)}


@pytest.mark.parametrize("name", MEASURED)
def test_estimates_are_near_what_was_measured(claims, name):
    memory, disk, seconds = MEASURED[name]
    needs = claims[name].resources()
    assert memory / 3 < needs.all_memory / 1e6 < memory * 3
    assert needs.seconds < max(3 * seconds, 2) and needs.seconds > seconds / 3
    assert needs.all_disk / 1e6 < 6 * disk + 3


def test_the_estimate_of_a_tiny_training_is_near_what_it_takes(tmp_path):
    overrides = [o for o in FAST if not o.startswith("analysis.")]
    overrides += ["agent.frames=256", "agent.evaluate_every=1"]
    command = [
        sys.executable,
        "-m",
        "dtx",
        "run",
        "target=dt",
        *overrides,
        "tracking.enabled=false",
    ]
    root = str(Path(__file__).parents[2])
    subprocess.run(
        command,
        cwd=tmp_path,
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
    )
    for path in (tmp_path / "store").glob("*/done.json"):
        record = json.loads(path.read_text())
        peak = record["peak_memory_mb"]
        assert peak / 3 < record["estimate"]["memory_mb"] < peak * 3, record["stage"]


ABSURD = [
    *("dt.model.d_model=1000000000", "dt.model.n_layers=100000", "dt.batch_size=100000000"),
    *("dt.model.d_mlp=100000000000", "dt.validation_windows=1000000000", "agent.width=10000000"),
    *("dt.model.n_ctx=10000000000", "dt.kept_checkpoints=100000 dt.steps=1000000"),
    *("dataset.episodes=1000000000000", "agent.evaluation_episodes=100000000"),
    "analysis.calibration.episodes=100000000",
    "analysis.demonstrations.audited_windows=1000000000",
    "analysis.calibration.behaviour_clone.model.d_model=8000000",
]


@pytest.mark.parametrize("override", ABSURD)
def test_absurd_sizes_are_refused_by_plan_and_run(override, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    field = override.split("=")[0].rpartition(".")[2]
    for verb in ("plan", "run"):
        assert main([verb, override]) == 2
        told = [x for x in capsys.readouterr().err.splitlines() if "warning" not in x]
        assert told and all(x.startswith("dtx: error: ") for x in told)
        assert field in told[0] or "model" in told[0], told[0]
    assert not list(tmp_path.glob("store/*-*")) and not list(tmp_path.glob("store/.work/*"))


def test_a_sweep_is_refused_as_a_whole_where_it_runs_here(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sweep = ["-m", "target=dt", "dt.batch_size=64,100000000"]
    for verb in ("plan", "run"):
        assert main([verb, *sweep]) == 2
        assert "of memory" in capsys.readouterr().err
    assert main(["plan", *sweep, "hydra/launcher=slurm"]) == 0  # each job asks where it runs


GROWS = [
    *("dt.model.d_model", "dt.model.n_layers", "dt.model.d_mlp", "dt.batch_size", "dt.steps"),
    *("dt.validation_windows", "agent.frames", "agent.width", "agent.epochs", "dataset.episodes"),
    *("agent.evaluation_episodes", "agent.attempts", "dataset.environments"),
    *("analysis.calibration.episodes", "analysis.demonstrations.audited_windows"),
]


@pytest.mark.parametrize("field", GROWS)
def test_more_needs_more(field):
    def needs(factor: int) -> tuple[float, float, float]:
        config = compose([])
        value = config
        *path, leaf = field.split(".")
        for name in path:
            value = value[name]
        value[leaf] = int(value[leaf] * factor)
        all_ = [s.resources() for s in plan.stages(experiment(config).targets.values())]
        memory, disk = (
            sum(x) for x in zip(*((n.all_memory, n.all_disk) for n in all_), strict=True)
        )
        return memory, disk, sum(n.seconds for n in all_)

    one, ten, huge = needs(1), needs(8), needs(8_000_000)
    for a, b, c in zip(one, ten, huge, strict=True):
        assert a <= b <= c and math.isfinite(c)
    assert one < ten < huge and max(c / a for a, c in zip(one, huge, strict=True)) > 100
