"""The whole pipeline as processes: run, run again, kill and go on, and what the UI will show."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from dtx.cli import main
from dtx.config.compose import CONF, compose, experiment
from dtx.progress import console
from tests.end_to_end.kills import STAGES
from tests.fast import FAST
from tests.once import once

ROOT = Path(__file__).parent.parent.parent
PRESETS = sorted(p.stem for p in CONF.glob("experiment/*.yaml"))


def dtx(folder: Path, *args: str) -> subprocess.Popen:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    command = [sys.executable, "-W", "error::UserWarning:dtx", "-m", "dtx", *args]
    process = subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.said = "".join(process.communicate(timeout=600))
    assert "Traceback" not in process.said, process.said
    return process


def artefacts(folder: Path) -> dict[str, str]:
    """Checksums of all files of all artefacts, without those that hold speeds and dates."""
    found = {}
    for done in sorted((folder / "store").glob("*/done.json")):
        for name, (_, digest) in json.loads(done.read_text())["files"].items():
            if name != "timing.jsonl":
                found[f"{done.parent.name}/{name}"] = digest
    return found


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A folder in which the default study was run to its end, with tracking; made once for all workers."""

    def make(folder: Path) -> None:
        folder.mkdir()
        process = dtx(folder, "run", *FAST)
        assert process.returncode == 0, process.said
        assert "8 of 8 stages ran" in process.said

    return once(tmp_path_factory, "finished", make)


@pytest.fixture
def here(tmp_path, monkeypatch, capsys, logging_as_before):
    """Give a command in this process and an empty folder, where a process of its own would add but imports.

    The function gives the exit status and what was said.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(console, "width", 160)

    def command(*args: str) -> tuple[int, str]:
        capsys.readouterr()
        status = main(list(args))
        return status, "".join(capsys.readouterr())

    return command


def copy_artefacts(folder: Path, to: Path) -> None:
    """Of a finished folder; what the store keeps beside them may come and go meanwhile."""
    shutil.copytree(folder / "store", to / "store", ignore=shutil.ignore_patterns(".*"))


def test_every_stage_has_the_numbers_that_its_headline_declares(finished):
    from dtx.running.plan import stages
    from dtx.store.store import Store, used

    with used(Store(finished / "store")):
        for stage in stages(experiment(compose(FAST), FAST).targets.values()):
            numbers = stage.headline_metrics()
            lacking = {name for name, value in numbers.items() if value is None}
            # An agent of this size never solves the task, and no target is supported.
            rare = {"agent/frames_to_solved", "calibration/mae", "calibration/spearman"}
            assert numbers and lacking <= rare, stage.label


def test_again_reuses_everything(finished):
    process = dtx(finished, "run", *FAST)
    assert process.returncode == 0 and "everything reused (8 stages)" in process.said


def test_the_folder_holds_nothing_but_results(finished):
    assert {p.name for p in finished.iterdir()} == {
        "store",
        "mlflow.db",
        "mlflow.db.lock",
        "mlartifacts",
        "outputs",
    }


def test_mlflow_shows_nested_runs_curves_figures_and_lineage(finished):
    from mlflow import MlflowClient

    client = MlflowClient(
        f"sqlite:///{finished}/mlflow.db", registry_uri=f"sqlite:///{finished}/mlflow.db"
    )
    runs = client.search_runs([client.get_experiment_by_name("dtx").experiment_id])
    assert len(runs) == 9 and {r.info.status for r in runs} == {"FINISHED"}
    parent = next(r for r in runs if "mlflow.parentRunId" not in r.data.tags)
    assert len(parent.data.tags["mlflow.note.content"].splitlines()) >= 5
    assert "calibration/success_high" in parent.data.metrics
    figures = {a.path for a in client.list_artifacts(parent.info.run_id, "figures")}
    assert {"figures/calibration.png", "figures/demonstrations.png"} <= figures
    by_stage = {}
    for run in (client.get_run(r.info.run_id) for r in runs):  # a search leaves out models
        by_stage.setdefault(run.data.tags.get("dtx.stage"), []).append(run)
    (agent,) = by_stage["ppo"]
    (dataset,) = by_stage["rollouts"]
    (calibration,) = by_stage["calibration"]
    key = agent.data.tags["dtx.key"]
    assert key in dataset.data.tags["dtx.inputs"]
    (made,) = dataset.inputs.dataset_inputs
    assert made.dataset.digest == dataset.data.tags["dtx.key"]
    assert json.loads(made.dataset.profile)["episodes"] == 80
    assert len(by_stage["decision_transformer"]) == 3
    assert len(calibration.inputs.model_inputs) == 4
    assert agent.outputs.model_outputs[0].model_id == dataset.inputs.model_inputs[0].model_id
    names = {m for run in by_stage["decision_transformer"] for m in run.data.metrics}
    assert "dt/loss" in names and all("/" in name for name in names)
    tables = {a.path for a in client.list_artifacts(calibration.info.run_id, "tables")}
    assert {"tables/curve.json", "tables/curve.parquet"} <= tables


def test_killed_anywhere_and_gone_on_with_is_bit_identical(finished, tmp_path):
    """SIGKILL at three moments, each in another stage; the artefacts must equal the uninterrupted ones."""
    here = tmp_path / "here"
    here.mkdir()
    command = [sys.executable, "-m", "tests.end_to_end.kills", str(here)]
    told = subprocess.run(
        [*command, "run", *FAST, "tracking.enabled=false"],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    kills, status, said = json.loads(told)
    assert kills >= len(STAGES) - 1  # a tiny stage can be over before it is seen
    assert status == 0 and "Traceback" not in said, said
    reference, resumed = artefacts(finished), artefacts(here)
    assert reference.keys() == resumed.keys()
    different = {name for name in reference if reference[name] != resumed[name]}
    assert not different


def test_a_flipped_byte_in_a_weight_file_is_named(finished, here, tmp_path):
    copy_artefacts(finished, tmp_path)
    weights = next((tmp_path / "store").glob("decision_transformer-*/weights.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    again = ["run", *FAST, "tracking.enabled=false", "analysis.calibration.seed=1"]
    status, said = here(*again)
    lines = [x for x in said.splitlines() if x.startswith("dtx: error")]
    assert status == 2 and len(lines) == 1
    assert (
        "weights.safetensors" in lines[0]
        and "checksum" in lines[0]
        and "dtx invalidate" in lines[0]
    )
    command = lines[0].split("`")[1].split()[1:]
    assert here(*command)[0] == 0
    status, said = here(*again)
    assert status == 0, said


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("agent.lrr=1", "agent.lrr: no such field (did you mean 'lr'?)"),
        ("agent.lr=fast", "agent.lr: a number is wanted, not 'fast'"),
        (
            "dataset.mixture=[{temperature: 0, share: 1}]",
            "dataset.mixture[0].temperature: must be above 0",
        ),
        ("dt.windows.context=60", "position table"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, override, words):
    process = dtx(tmp_path, "run", override)
    lines = process.said.strip().splitlines()
    assert process.returncode == 2 and len(lines) == 1 and words in lines[0]
    assert not list(tmp_path.iterdir())


def test_an_unknown_environment_is_one_line(tmp_path):
    process = dtx(
        tmp_path, "run", "env=minigrid", "env.id=MiniGrid-Memry-v0", "tracking.enabled=false"
    )
    lines = [x for x in process.said.splitlines() if "error" in x]
    assert process.returncode == 2 and len(lines) == 1 and "MiniGrid-Mem" in lines[0]


@pytest.mark.parametrize(
    "preset",
    # The default study is `finished`; the claims' eleven analyses have no fast form but their models'.
    [
        pytest.param(p, marks=pytest.mark.slow if p == "memory_dt_claims" else ())
        for p in PRESETS
        if p != "memory_dt"
    ],
)
def test_every_preset_runs_in_its_fast_form(finished, here, tmp_path, preset):
    """What a preset shares with the default study, key for key, has run there."""
    copy_artefacts(finished, tmp_path)
    chosen = compose([f"experiment={preset}"]).analysis
    fast = [o for o in FAST if not o.startswith("analysis.") or o.split(".")[1] in chosen]
    status, said = here("run", f"experiment={preset}", *fast, "tracking.enabled=false")
    assert status == 0, said
    assert targets_played(tmp_path, [f"experiment={preset}", *fast]) == {0.0, 0.9}


def test_the_default_study_is_a_preset(finished):
    assert targets_played(finished, ["experiment=memory_dt", *FAST]) == {0.0, 0.9}


def targets_played(folder: Path, overrides: list[str]) -> set[float]:
    """Of the calibration of an experiment."""
    target = experiment(compose(overrides)).targets["calibration"]
    curve = pd.read_parquet(folder / "store" / target.label / "tables" / "curve.parquet")
    return set(curve.target)


def test_sweep_shares_what_it_can(here, tmp_path):
    status, said = here("run", "-m", *FAST, "tracking.enabled=false", "target=dt", "dt.seed=0,1")
    assert status == 0, said
    count = {
        name: len(list((tmp_path / "store").glob(f"{name}-*")))
        for name in ("ppo", "rollouts", "decision_transformer")
    }
    assert count == {"ppo": 1, "rollouts": 1, "decision_transformer": 2}
