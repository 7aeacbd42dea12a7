"""``dtx plan`` as a user reads it."""

import pytest

from dtx.cli import main
from tests.toys import CHAIN, write_chain

QUIET = "tracking.enabled=false"


@pytest.fixture
def user(tmp_path, monkeypatch):
    write_chain(tmp_path / "conf")  # found unasked
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_line_for_each_stage_with_the_reason_then_the_sum(user, capsys):
    assert main(["plan", *CHAIN]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["action", "stage", "artefact", "time", "why"]
    assert [line.split()[0] for line in lines[:5]] == ["run"] * 5
    assert "1 of 5" in lines[0] and lines[-3].split()[1:5] == ["5", "of", "5", "two"]
    assert lines[-1] == (
        "5 toys to run (new); no estimate: these stages have neither run here nor a reference timing"
    )
    assert not (user / "store").exists()

    main(["run", *CHAIN, QUIET])
    capsys.readouterr()
    assert main(["plan", *CHAIN, "analysis.two.value=9"]) == 0
    _, *lines, _, last = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["reuse"] * 4 + ["run"]
    # Analysis two is the newest of the two that are nearest; the clock may not tell them apart.
    why = lines[-1].split("  ")[-1]
    assert why in ("config changed: value 1 -> 9", "config changed: value 0 -> 9")
    assert last == (
        f"4 toys reused, 1 toys to run ({why}); "
        "about 0 s of work on one core, estimated from earlier runs here"
    )


def test_a_sweep_counts_each_stage_once_and_lists_them_if_they_are_few(user, capsys):
    assert main(["plan", "-m", *CHAIN, "agent.value=1,2", "dt.value=1,2,3"]) == 0
    out = capsys.readouterr().out
    assert out.count("run  ") == 22
    assert "6 jobs over agent.value, dt.value: 22 toys to run (new)" in out
    assert main(["plan", "-m", *CHAIN, "dt.value=range(100)"]) == 0
    assert capsys.readouterr().out.count("\n") == 1
    assert main(["plan", "-m", "--all", *CHAIN, "dt.value=range(100)"]) == 0
    assert capsys.readouterr().out.count("run  ") == 302


def test_jobs_that_cannot_be_composed_are_told_beside_the_plan_of_the_others(user, capsys):
    assert main(["plan", "-m", *CHAIN, "dt.value=1,x"]) == 2
    told = capsys.readouterr()
    assert "2 jobs over dt.value: 5 toys to run" in told.out
    assert told.err == "dtx: error: dt.value: a whole number is wanted, not 'x' (job dt.value=x)\n"


def test_a_preset_can_carry_its_sweep(user, capsys):
    (user / "conf" / "experiment").mkdir()
    (user / "conf" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\n"
        "defaults: [{override /agent: toy}, {override /dataset: toy}, {override /dt: toy},\n"
        "           {override /analysis: [one]}]\n"
        "hydra: {sweeper: {params: {dt.value: '1,2,3', agent.value: '5,6'}}}\n"
    )
    assert main(["plan", "-m", "experiment=mine"]) == 0
    assert "6 jobs over dt.value, agent.value" in capsys.readouterr().out
    assert main(["plan", "-m", "experiment=mine", "agent.value=7"]) == 0
    assert "3 jobs over dt.value:" in capsys.readouterr().out


@pytest.mark.parametrize("override", ["hydra/launcher=joblib", "hydra.sweep.dir=x"])
def test_what_only_a_sweep_reads_is_refused_without_m(user, capsys, override):
    assert main(["plan", *CHAIN, override]) == 2
    assert f"{override}: is for sweeps: add -m" in capsys.readouterr().err


def test_another_sweeper_is_refused_and_hydras_own_is_a_grid(user, capsys):
    assert main(["plan", "-m", *CHAIN, "dt.value=1,2", "hydra/sweeper=nevergrad"]) == 2
    assert "basic (a grid) and optuna (a search) are there" in capsys.readouterr().err
    assert main(["plan", "-m", *CHAIN, "dt.value=1,2", "hydra/sweeper=basic"]) == 0
    assert "2 jobs over dt.value" in capsys.readouterr().out
    assert main(["plan", "-m", *CHAIN, "dt.value=interval(1,2)"]) == 2
    assert "a grid has no intervals; for a search: hydra/sweeper=optuna" in capsys.readouterr().err
