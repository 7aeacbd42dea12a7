"""Sweeps that run: each stage once, failures told, one run in MLflow to review them by."""

import json

import pytest

from dtx.cli import main
from dtx.progress import console
from tests.toys import CHAIN, runs, write_chain

QUIET = "tracking.enabled=false"


@pytest.fixture
def user(tmp_path, monkeypatch):
    write_chain(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "width", 200)  # tables are read below
    return tmp_path


def sweep(*args: str, verb: str = "run") -> int:
    return main([verb, "-m", "--config-dir", "mine", *CHAIN, *args])


def test_each_stage_runs_once_and_only_what_changed_runs_again(user, capsys):
    grid = [QUIET, "agent.value=1,2", "dt.value=10,20,30"]
    assert sweep(*grid) == 0
    assert runs(user, "link") == 2 + 2 + 6 + 12
    assert "6 jobs: 6 ran; 22 stages ran" in capsys.readouterr().err

    assert sweep(*grid) == 0
    assert runs(user, "link") == 22
    assert "6 jobs: 6 reused; 0 stages ran" in capsys.readouterr().err

    assert sweep(*grid, "analysis.two.value=5", verb="plan") == 0
    assert "16 toys reused, 6 toys to run" in capsys.readouterr().out
    assert sweep(*grid, "analysis.two.value=5") == 0
    assert runs(user, "link") == 22 + 6


def test_results_are_right_for_every_job(user):
    sweep(QUIET, "agent.value=1,2", "dt.value=10,20")
    totals = sorted(
        json.loads(p.read_text())["chain/total"]
        for p in user.glob("store/toys-*/headline.json")
        if "chain/total" in p.read_text()
    )
    # datasets 1, 2; dts 11, 21, 12, 22; analysis one adds 0, two adds 1
    dts = [11, 21, 12, 22]
    assert totals == sorted([1, 2, *dts, *dts, *(d + 1 for d in dts)])


def test_every_failure_is_in_one_table_and_costs_only_its_own(user, capsys):
    assert sweep(QUIET, "dt.value=1,x,3", "analysis.two.fail=false,true") == 1
    error = capsys.readouterr().err
    assert "6 jobs: 2 ran, 4 failed" in error
    table = error[error.index("6 jobs:") :]
    assert table.count("told to fail at 1") == 2
    assert table.count("dt.value: a whole number is wanted, not 'x'") == 2
    assert table.count("dtx.log") == 2
    logs = list(user.glob("multirun/*/*/*/dtx.log"))
    assert any("starts" in log.read_text() for log in logs)
    assert sweep(QUIET, "dt.value=1,3") == 0  # and nothing is left to do for the good ones
    assert "0 stages ran" in capsys.readouterr().err


def test_a_shared_stage_that_fails_is_tried_once(user, capsys):
    assert sweep(QUIET, "dataset.fail=true", "dt.value=1,2,3") == 1
    error = capsys.readouterr().err
    assert "3 jobs: 3 failed; 1 stages ran" in error
    assert runs(user, "link") == 2  # the agent, and the dataset once
    assert error[error.index("3 jobs:") :].count("told to fail at 0") == 3


def test_on_error_stop_launches_nothing_more(user, capsys):
    assert sweep(QUIET, "on_error=stop", "dt.fail=true,false", "dt.value=1,2") == 1
    error = capsys.readouterr().err
    assert "1 failed, 3 skipped" in error
    assert runs(user, "link") == 3
    assert sweep(QUIET, "on_error=stop", "dt.fail=false", "dt.value=1,2") == 0


def test_comparing_adds_its_figures_to_the_run_of_the_sweep(user, capsys):
    from mlflow import MlflowClient

    uri = f"sqlite:///{user}/mlflow.db"
    grid = ["agent.value=1,2", "dt.value=10,20"]
    assert sweep(*grid) == 0
    client = MlflowClient(uri, registry_uri=uri)
    found = client.search_runs([client.get_experiment_by_name("dtx").experiment_id])
    (parent,) = [r for r in found if r.data.tags["dtx.role"] == "sweep"]
    capsys.readouterr()
    assert sweep(*grid, "--metric", "chain/total", "--by", "dt.value", verb="compare") == 0
    told = capsys.readouterr().err.replace("\n", "")
    assert parent.info.run_id in told
    figures = {a.path for a in client.list_artifacts(parent.info.run_id, "compare")}
    assert "compare/chain_total_by_dt.value.png" in figures


def test_changed_code_is_made_again_once_for_all_jobs_and_what_reads_it_too(user, capsys):
    grid = [QUIET, "dt.value=1,2"]
    assert sweep(*grid) == 0
    agent = next(
        p
        for p in user.glob("store/toys-*/done.json")
        if json.loads(p.read_text())["config"]["before"] is None
    )
    record = json.loads(agent.read_text())
    record["source"]["files"]["tests/toys.py"] = "of other code"
    agent.write_text(json.dumps(record))
    assert sweep(*grid) == 0  # on_drift=warn
    assert runs(user, "link") == 1 + 1 + 2 + 4
    capsys.readouterr()
    assert sweep(*grid, "on_drift=rerun") == 0
    assert runs(user, "link") == 2 * (1 + 1 + 2 + 4)
    assert "2 jobs: 2 ran; 8 stages ran" in capsys.readouterr().err
    assert sweep(*grid, "on_drift=rerun") == 0
    assert runs(user, "link") == 2 * (1 + 1 + 2 + 4)
    assert sweep(*grid, "on_drift=fail") == 0  # nothing has drifted any more
