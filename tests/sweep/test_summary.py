"""What a sweep prints at its end, and the names of its stages."""

from pathlib import Path

import pytest

from dtx.cli import main
from dtx.running.plan import stages
from dtx.sweep.grid import read_sweep
from dtx.sweep.summary import titles_of_jobs
from tests.toys import CHAIN, write_chain

QUIET = "tracking.enabled=false"


@pytest.fixture
def user(tmp_path, monkeypatch) -> Path:
    write_chain(tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines_of(capsys) -> list[str]:
    return [line.strip() for line in capsys.readouterr().err.splitlines() if line.strip()]


def test_a_sweep_ends_with_its_table_and_the_next_step(user, capsys):
    args = ["run", "-m", *CHAIN, QUIET, "dt.value=1,5"]
    assert main(args) == 0
    lines = lines_of(capsys)
    start = lines.index("chain by dt.value")
    assert [line.split() for line in lines[start + 1 : start + 4]] == [
        ["dt.value", "jobs", "total"],
        ["1", "1", "1"],
        ["5", "1", "5"],
    ]
    assert lines[start + 4].startswith("2 jobs: 2 ran; 8 stages ran in ")
    assert (
        lines[-1]
        == "next: `dtx compare` draws these numbers, `dtx compare --list` names all others"
    )
    main(args)
    again = lines_of(capsys)
    assert "chain by dt.value" in again and any("2 jobs: 2 reused; 0" in line for line in again)


def test_failures_stand_below_the_numbers_of_the_jobs_that_ran(user, capsys):
    assert main(["run", "-m", *CHAIN, QUIET, "dt.value=1,5", "analysis.one.fail=false,true"]) == 1
    lines = lines_of(capsys)
    table = lines.index("chain by dt.value")
    assert any("told to fail at 0" in line for line in lines[table:])
    assert lines[-1].startswith("next: `dtx compare`")


def test_stages_of_a_sweep_are_named_by_role_and_by_what_tells_them_apart(user):
    sweep = read_sweep([*CHAIN, QUIET, "dt.value=1,5", "seed=0"], Path("conf"))
    titles = titles_of_jobs(sweep)
    ordered = [titles[s.label] for s in stages(sweep.targets())]
    assert [title.split()[:3] for title in ordered] == [[str(i), "of", "8"] for i in range(1, 9)]
    own = [title for title in ordered if "(" in title]
    assert len(own) == 6  # the agent and the dataset are shared
    assert ordered[3] == "4 of 8 one (dt.value=1)" and ordered[7] == "8 of 8 two (dt.value=5)"


def test_a_plan_of_a_sweep_shows_them(user, capsys):
    assert main(["plan", "-m", *CHAIN, "dt.value=1,5"]) == 0
    assert "4 of 8 one (dt.value=1)" in capsys.readouterr().out
