"""``dtx run``: failures that cost only what needs them, names that keep, Hydra's own flags."""

import json

import pytest

from dtx.cli import main
from tests.toys import CHAIN, runs, write_chain

QUIET = "tracking.enabled=false"


@pytest.fixture
def user(tmp_path, monkeypatch):
    write_chain(tmp_path / "conf")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_failed_stage_costs_only_what_needs_it(user, capsys):
    assert main(["run", *CHAIN, QUIET, "analysis.one.fail=true"]) == 2
    error = capsys.readouterr().err
    assert "dtx: error: told to fail at 0" in error and "Traceback" not in error
    assert runs(user, "link") == 5  # the other analysis ran
    assert main(["run", *CHAIN, QUIET, "dataset.fail=true", "dataset.value=7"]) == 2
    error = capsys.readouterr().err
    assert "told to fail at 7" in error and error.count("skipped") == 3
    assert runs(user, "link") == 6


def test_on_error_stop_runs_nothing_after_the_first_failure(user, capsys):
    assert main(["run", *CHAIN, QUIET, "on_error=stop", "analysis.one.fail=true"]) == 2
    assert runs(user, "link") == 4
    assert "after a failure (on_error=stop)" in capsys.readouterr().err


def test_a_defect_is_a_traceback_once_and_exit_status_1(user, capsys, monkeypatch):
    monkeypatch.setattr("tests.toys.Link.load", lambda self: 1 // 0)
    assert main(["run", *CHAIN, QUIET]) == 1
    error = capsys.readouterr().err
    assert error.count("Traceback") == 1
    *_, line, log = error.splitlines()
    assert line.endswith("ZeroDivisionError: integer division or modulo by zero")
    assert log.startswith("log: outputs/")


def test_a_name_given_by_the_user_is_remembered_for_gc(user):
    main(["run", *CHAIN, QUIET])
    assert not (user / "store" / ".runs").exists()
    main(["run", *CHAIN, QUIET, "name=kept"])
    note = json.loads((user / "store" / ".runs" / "kept.json").read_text())
    assert len(note["labels"]) == 5 and "name=kept" in note["overrides"]


def test_the_table_names_stages_by_place_and_role_and_says_what_to_do_next(user, capsys):
    assert main(["run", *CHAIN, QUIET, "seed=4", "note=only a toy"]) == 0
    lines = capsys.readouterr().err.splitlines()
    header = next(i for i, line in enumerate(lines) if line.startswith("stage"))
    assert lines[header].split() == ["stage", "artefact", "status", "result"]
    rows = [line.split() for line in lines[header + 1 : header + 6]]
    assert [row[:3] for row in rows] == [[str(i), "of", "5"] for i in range(1, 6)]
    assert [row[3] for row in rows] == ["before", "before", "before", "one", "two"]
    assert rows[3][4].startswith("toys-") and rows[3][5] == "ran"
    assert any(line.startswith("4 of 5 one (toys-") and line.endswith("starts") for line in lines)
    assert lines[-4:-1] == [
        "note: only a toy",
        "results: ./store",
        f"next: `dtx run -m {' '.join(CHAIN[:3])} 'analysis=[one,two]' tracking.enabled=false "
        "'note=only a toy' seed=0,1,2` repeats it with other seeds and compares them",
    ]


def test_time_is_told_with_and_without_start_up(user, capsys):
    main(["run", *CHAIN, QUIET])
    capsys.readouterr()
    main(["run", *CHAIN, QUIET])
    assert "everything reused (5 stages) in " in capsys.readouterr().err


def test_done_tells_overrides_and_all_the_time(user):
    main(["run", *CHAIN, QUIET, "agent.value=3"])
    for path in user.glob("store/toys-*/done.json"):
        record = json.loads(path.read_text())
        assert "agent.value=3" in record["overrides"]
        assert record["seconds"] >= 0 and record["interruptions"] == 0
        assert record["peak_memory_mb"] > 10
        assert {"git", "packages", "host", "python", "config", "inputs"} <= set(record)


def test_hydras_flags_work(user, capsys, logging_as_before):
    assert main(["run", *CHAIN, "--cfg", "job", "--package", "dt"]) == 0
    assert "_target_: tests.toys.Link" in capsys.readouterr().out
    assert main(["run", "--info", "searchpath", *CHAIN]) == 0
    assert "conf" in capsys.readouterr().out


def test_flags_may_stand_anywhere_and_unknown_ones_are_told(user, capsys):
    assert main(["plan", "agent=toy", "-m", *CHAIN[1:], "--config-dir", "conf", "seed=1"]) == 0
    with pytest.raises(SystemExit) as stop:
        main(["plan", "--colour", "seed=1"])
    assert stop.value.code == 2
    assert "unrecognized arguments: --colour" in capsys.readouterr().err
