"""Searches that run: as many trials as wanted, shared stages once, whatever is killed on the way."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import optuna
import psutil
import pytest

from dtx.cli import main
from dtx.progress import console
from tests.toys import VALLEY, runs, write_valley

ROOT = Path(__file__).parents[3]
QUIET = "tracking.enabled=false"
SEARCH = ["hydra/sweeper=optuna", "hydra.sweeper.metric=valley/loss"]
PRUNED = [
    *("hydra/sweeper/pruner=median", "hydra.sweeper.pruner.curve=loss"),
    *("hydra/sweeper/sampler=random", "hydra.sweeper.pruner.n_startup_trials=2"),
]


@pytest.fixture
def user(tmp_path, monkeypatch):
    write_valley(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "width", 200)
    return tmp_path


def words(*args: str) -> list[str]:
    given = [a.split("=")[0] for a in args]
    usual = ["dt.x=interval(0,1)", *([] if "tracking.enabled" in given else [QUIET])]
    return ["-m", "--config-dir", "mine", *VALLEY, *SEARCH, *usual, *args]


def search(*args: str, verb: str = "run") -> int:
    return main([verb, *words(*args)])


def trials(folder: Path, number: int = 0) -> list[optuna.trial.FrozenTrial]:
    """All trials of a study of the folder."""
    storage = f"sqlite:///{folder}/optuna.db"
    name = optuna.get_all_study_names(storage)[number]
    return optuna.load_study(study_name=name, storage=storage).trials


def states(folder: Path) -> list[str]:
    return [trial.state.name for trial in trials(folder)]


def test_a_search_finds_the_minimum_and_says_how_to_run_it(user, capsys):
    assert search("dt.method=plain,steep", "hydra.sweeper.n_trials=14") == 0
    assert runs(user, "link") == 1 and runs(user, "valley") == 14
    told = capsys.readouterr().err
    assert "14 of 14 trials done (14 complete), 0 left" in told
    done = trials(user)
    best = min(done, key=lambda trial: trial.value)
    assert all(t.value == pytest.approx((t.params["dt.x"] - 0.3) ** 2, abs=1e-4) for t in done)
    assert abs(best.params["dt.x"] - 0.3) < 0.1
    command = re.search(r"the best: dtx (.*)", told)
    assert command and f"dt.method={best.params['dt.method']}" in command[1]
    assert main(command[1].split()) == 0  # it is there already
    assert "everything reused" in capsys.readouterr().err

    assert search("dt.method=plain,steep", "hydra.sweeper.n_trials=14") == 0
    assert runs(user, "valley") == 14
    assert search("dt.method=plain,steep", "hydra.sweeper.n_trials=15") == 0
    assert runs(user, "valley") == 15 and runs(user, "link") == 1


def test_the_greatest_value_is_best_when_it_is_maximised(user, capsys):
    assert search("hydra.sweeper.direction=maximize", "hydra.sweeper.n_trials=6") == 0
    best = max(trials(user), key=lambda trial: trial.value)
    command = re.search(r"the best: .* dt.x=(\S+)", capsys.readouterr().err)
    assert command and float(command[1]) == pytest.approx(best.params["dt.x"], abs=1e-3)


def test_a_trial_that_falls_behind_is_pruned_and_is_no_failure(user, capsys):
    assert search(*PRUNED, "hydra.sweeper.n_trials=10") == 0
    told = capsys.readouterr().err
    found = trials(user)
    pruned = [t for t in found if t.state.name == "PRUNED"]
    assert pruned and len(pruned) == told.count("pruned: loss")
    assert f"{len(pruned)} pruned" in told and "failed" not in told
    assert runs(user, "valley") == 10 and runs(user, "valley_end") == 10 - len(pruned)
    curves = [t.intermediate_values for t in found if t.state.name == "COMPLETE"]
    assert all(list(curve) == [1, 2, 3, 4, 5] for curve in curves)
    complete = [abs(t.params["dt.x"] - 0.3) for t in found if t.state.name == "COMPLETE"]
    assert max(complete[2:]) < max(abs(t.params["dt.x"] - 0.3) for t in pruned)
    assert search(*PRUNED, "hydra.sweeper.n_trials=10") == 0  # pruned trials have ended
    assert runs(user, "valley") == 10


def test_trials_that_were_there_already_count_for_pruning_with_their_curves(user):
    three = ["hydra/sweeper/sampler=random", "hydra.sweeper.n_trials=3"]
    assert search(*three) == 0
    another = ["hydra.sweeper.n_trials=3", "hydra.sweeper.study_name=another"]
    assert search(*PRUNED, *another) == 0  # the same draws
    assert runs(user, "valley") == 3
    storage = f"sqlite:///{user}/optuna.db"
    done = optuna.load_study(study_name="another", storage=storage).trials
    assert [sorted(trial.intermediate_values) for trial in done] == [[1, 2, 3, 4, 5]] * 3


def test_a_curve_that_is_better_when_it_falls_prunes_a_search_for_a_maximum(user):
    args = [*PRUNED, "hydra.sweeper.n_trials=8", "hydra.sweeper.direction=maximize"]
    assert search(*args) == 0
    found = trials(user)
    first = next(t for t in found if t.state.name == "COMPLETE")
    assert first.intermediate_values[1] < -1  # the sign is turned for optuna
    pruned = [t for t in found if t.state.name == "PRUNED"]
    assert pruned  # those with the greater loss, though a great loss is what is searched for
    near = [abs(t.params["dt.x"] - 0.3) for t in found if t.state.name == "COMPLETE"]
    assert min(abs(t.params["dt.x"] - 0.3) for t in pruned) > sorted(near)[len(near) // 2]


def test_a_failing_trial_is_told_with_its_error_and_tried_again_by_the_next_command(user, capsys):
    assert search("dt.fail_above=0.45", "hydra.sweeper.n_trials=5") == 1
    found = trials(user)
    failed = [t for t in found if t.state.name == "FAIL"]
    assert failed and len(found) == 5
    assert all("told to fail at" in t.user_attrs["error"] for t in failed)
    assert all(t.params["dt.x"] > 0.45 for t in failed)
    table = capsys.readouterr().err
    assert table[table.index("5 jobs:") :].count("told to fail at") == len(failed)

    assert search("dt.fail_above=0.45", "hydra.sweeper.n_trials=5") == 1
    again = trials(user)[5:]
    assert [t.params for t in again] == [t.params for t in failed]
    assert [t.user_attrs["again"] for t in again] == [t.number for t in failed]
    assert runs(user, "valley_end") == 5 - len(failed)


def test_a_shared_stage_that_fails_ends_the_search_and_is_no_fault_of_the_trials(user, capsys):
    assert search("agent.fail=true", "hydra.sweeper.n_trials=6") == 1
    assert "which every trial needs, failed" in capsys.readouterr().err
    assert runs(user, "link") == 1 and runs(user, "valley") == 0
    assert set(states(user)) == {"RUNNING"}


def test_the_first_failure_ends_the_search_if_told_so(user):
    assert search("on_error=stop", "dt.fail_above=-1", "hydra.sweeper.n_trials=6") == 1
    assert states(user) == ["FAIL", "RUNNING"] and runs(user, "valley") == 1
    assert search("on_error=stop", "dt.fail_above=-1", "hydra.sweeper.n_trials=6", verb="plan") == 0


def test_plan_says_how_many_trials_are_done(user, capsys):
    assert search("hydra.sweeper.n_trials=6", verb="plan") == 0
    fresh = capsys.readouterr().out
    assert "0 of 6 trials done, 6 left" in fresh and "each of 6 trials: 1 toys to run" in fresh
    assert not list(user.glob("*.db")) and runs(user, "link") == 0
    assert search("hydra.sweeper.n_trials=4") == 0
    capsys.readouterr()
    assert search("hydra.sweeper.n_trials=6", verb="plan") == 0
    after = capsys.readouterr().out
    assert "4 of 6 trials done (4 complete), 2 left" in after
    assert "for all trials: 1 toys reused" in after


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (["hydra.sweeper.metric=valley/los"], "did you mean 'valley/loss'?"),
        (["hydra.sweeper.metric=loss"], "a full name is wanted"),
        (["hydra.sweeper.n_trails=3"], "did you mean 'n_trials'?"),
        (["hydra.sweeper.sampler.sede=3"], "did you mean 'seed'?"),
        (["hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials: must be at least 1"),
        (["hydra/sweeper=nevergrad"], "no sweeper 'nevergrad'"),
        (["dt.x=interval(1,0)"], "dt.x: interval(1,0): 1 is above 0"),
        (["dt.y=interval(0,1)"], "dt.y: no such field"),
        (["dt.method=interval(0,1)"], "dt.method: text is wanted"),
        (["tracking.experiment=a,b"], "is the same for all jobs"),
        (["hydra.sweeper.storage=nothing"], "hydra.sweeper.storage: nothing:"),
        (
            ["hydra/sweeper/pruner=median", "hydra.sweeper.pruner.stage=env"],
            "is no stage that runs",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line_before_anything_runs(user, capsys, args, what):
    assert search(*args) == 2
    told = capsys.readouterr().err
    assert what in told and len(told.splitlines()) == 1
    assert not (user / "store").exists() or runs(user, "link") == 0


def test_a_curve_that_the_stage_does_not_write_fails_with_those_that_it_writes(user, capsys):
    pruner = ["hydra/sweeper/pruner=median", "hydra.sweeper.pruner.curve=losss"]
    assert search(*pruner, "hydra.sweeper.n_trials=2") == 1
    assert "writes no curve 'losss' (did you mean 'loss'?)" in capsys.readouterr().err


def test_a_metric_that_the_first_trials_do_not_have_ends_the_search(user, capsys):
    assert search("hydra.sweeper.metric=dt/loss", "hydra.sweeper.n_trials=8") == 1
    told = capsys.readouterr().err
    assert "there is no metric 'dt/loss' (did you mean 'valley/loss'?): the search ends" in told
    assert states(user) == ["FAIL", "FAIL"]


def test_a_study_of_another_space_is_not_gone_on_with(user, capsys):
    named = ["hydra.sweeper.study_name=mine", "hydra.sweeper.n_trials=2"]
    assert search(*named) == 0
    assert search(*named, "dt.seconds=0.0,0.001") == 2
    assert "mine is a search for another metric or in another space" in capsys.readouterr().err


def test_optuna_that_is_not_installed_is_told_with_the_command(user, capsys, monkeypatch):
    import importlib.util

    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "optuna" else there(name, *a)
    )
    assert search() == 2
    assert "optuna is not installed; pip install 'dtx[optuna]'" in capsys.readouterr().err


def test_mlflow_has_one_run_of_the_search_that_is_the_parent_of_all(user):
    from mlflow import MlflowClient

    assert search("tracking.enabled=true", "hydra.sweeper.n_trials=4", *PRUNED) == 0
    uri = f"sqlite:///{user}/mlflow.db"
    client = MlflowClient(uri, registry_uri=uri)
    found = client.search_runs([client.get_experiment_by_name("dtx").experiment_id])
    (parent,) = [r for r in found if "mlflow.parentRunId" not in r.data.tags]
    assert parent.info.status == "FINISHED" and parent.data.params["dt.x"] == "(swept)"
    ended = [r.info.status for r in found if r is not parent]
    pruned = states(user).count("PRUNED")
    assert ended.count("KILLED") == pruned and "FAILED" not in ended and "RUNNING" not in ended
    assert parent.data.metrics["jobs/ran"] == 4 - pruned


def begin(folder: Path, *args: str) -> subprocess.Popen:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "dtx", "run", *words(*args)],
        cwd=folder,
        env=env,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_when(job: subprocess.Popen, folder: Path, begun: int) -> None:
    """Kill a command and its workers once so many trials have begun."""
    end = time.monotonic() + 180
    while runs(folder, "valley") < begun:
        assert job.poll() is None, job.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.02)
    for process in [psutil.Process(job.pid), *psutil.Process(job.pid).children(recursive=True)]:
        process.kill()
    job.communicate()


def test_twelve_trials_in_two_processes_killed_twice_are_twelve_trials(user, tmp_path_factory):
    workers = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweeper.n_trials=12"]
    slow = [*workers, "dt.seconds=0.15"]
    for begun in (3, 8):
        kill_when(begin(user, *slow), user, begun)
        assert "RUNNING" in states(user)
    job = begin(user, *slow)
    _, told = job.communicate(timeout=300)
    assert job.returncode == 0, told
    assert "12 of 12 trials done (12 complete), 0 left" in told
    found = trials(user)
    assert [t.state.name for t in found] == ["COMPLETE"] * 12
    assert runs(user, "link") == 1  # the stage that all trials share
    assert runs(user, "valley_end") == len({t.params["dt.x"] for t in found}) == 12
    assert 12 < runs(user, "valley") <= 12 + 4  # those that ran when they were killed ran again

    assert search("hydra.sweeper.n_trials=12") == 0  # the same search, never killed, in one process
    assert [t.params for t in trials(user, 1)] == [t.params for t in found]
