import json
import multiprocessing
import os
import time

import pytest

from dtx.cli import main
from dtx.errors import Interrupted
from dtx.progress import PROGRESS, progress, report_to
from dtx.running.runner import run
from dtx.store.store import DONE, Store
from tests.toys import Number, Spread, Sum

ONE, TWO = Number(value=1), Number(value=2)
TOTAL = Sum(left=ONE, right=TWO)
SPAWN = multiprocessing.get_context("spawn")


def status(store, *args: str) -> int:
    return main(["status", "--store", str(store.root), *args])


def test_finished_stages_newest_first_with_what_came_out(store, experiment_of, capsys):
    run(experiment_of(ONE))
    path = store.folder(ONE) / DONE
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "finished": "2020-01-01T00:00:00+0000"})
    )
    run(experiment_of(TWO))
    capsys.readouterr()
    assert status(store) == 0
    title, header, *rows, totals = capsys.readouterr().out.splitlines()
    assert title == "finished, newest first:"
    assert header.split()[:5] == ["stage", "key", "age", "took", "size"]
    assert [row.split()[:2] for row in rows] == [["toys", TWO.key], ["toys", ONE.key]]
    assert rows[0].endswith("value 2") and rows[1].endswith("value 1") and " years " in rows[1]
    assert totals.startswith("2 finished (") and totals.endswith("0 in progress, 0 interrupted")


def test_an_analysis_shows_its_finding_or_why_it_is_not_established(store, experiment_of, capsys):
    run(experiment_of(Spread(of=ONE, error=0.0), Spread(of=ONE, error=3.0)))
    capsys.readouterr()
    status(store)
    rows = capsys.readouterr().out.splitlines()
    assert sum(row.endswith("  spread 0.5; values spread: confirmed") for row in rows) == 1
    why = "not established (check failed: a sum and its parts: 3 is above 1e-06): spread 0.5"
    assert sum(row.endswith(why) for row in rows) == 1


def test_the_list_is_limited_but_not_the_totals(store, experiment_of, capsys):
    run(experiment_of(*[Number(value=v) for v in range(18)]))
    capsys.readouterr()
    status(store)
    out = capsys.readouterr().out
    assert out.count("\n  toys") == 15 and "and 3 more (--all)" in out and "18 finished" in out
    status(store, "--all")
    assert capsys.readouterr().out.count("\n  toys") == 18


def _train(root, go, ended):
    """Work as a stage does: hold the lock, move a bar."""
    with Store(root).work(ONE) as work, report_to(work), progress("toys", 1000, "frames") as bar:
        bar.move_to(250, "success .5")
        go.set()
        ended.wait(60)


def test_work_in_progress_then_interrupted(store, capsys):
    go, ended = SPAWN.Event(), SPAWN.Event()
    process = SPAWN.Process(target=_train, args=(store.root, go, ended))
    process.start()
    assert go.wait(60)
    assert status(store) == 0
    title, row, _, totals = capsys.readouterr().out.splitlines()
    assert title == "in progress:" and row.split()[0] == ONE.label
    assert "250 of 1,000 frames (25%), success .5; " in row
    assert f"process {process.pid} on " in row and "since" in row
    assert totals.endswith("1 in progress, 0 interrupted")
    process.kill()
    process.join()
    status(store)
    title, row, _, totals = capsys.readouterr().out.splitlines()
    assert title.startswith("interrupted (the same command resumes them")
    assert "250 of 1,000 frames" in row and row.endswith(" s ago")
    assert totals.endswith("0 in progress, 1 interrupted")


def test_the_rate_and_time_left_of_work_in_progress(store, capsys):
    with store.work(ONE) as work:
        now = {"done": 100, "total": 400, "unit": "frames", "rate": 50, "note": ""}
        (work / PROGRESS).write_text(json.dumps({**now, "time": time.time() - 3600}))
        status(store)
        row = capsys.readouterr().out.splitlines()[1]
        assert "100 of 400 frames (25%), 50 frames/s, 6 s left; that was 60 min ago" in row
        assert f"process {os.getpid()} on " in row
        (work / PROGRESS).write_text("{half")
        status(store)
        assert "no progress reported yet" in capsys.readouterr().out
        store.commit(ONE, work, {})
    assert not (store.folder(ONE) / PROGRESS).exists()
    assert PROGRESS not in store.done(ONE)["files"]


def test_an_interrupted_run_and_its_going_on(store, experiment_of, capsys):
    stage = Sum(left=ONE, right=TWO, fail="interrupt")
    with pytest.raises(Interrupted):
        run(experiment_of(stage))
    capsys.readouterr()
    status(store)
    out = capsys.readouterr().out
    assert stage.label in out.split("finished, newest first")[0] and "2 finished" in out
    run(experiment_of(stage))
    capsys.readouterr()
    status(store)
    assert "interrupted (" not in capsys.readouterr().out


def test_a_damaged_record_is_told_with_its_remedy(store, experiment_of, capsys):
    run(experiment_of(ONE, TWO))
    (store.folder(ONE) / DONE).write_text("{half")
    capsys.readouterr()
    assert status(store) == 0
    assert f"dtx invalidate {ONE.label}" in capsys.readouterr().out


def test_no_store_is_one_line(tmp_path, capsys):
    assert main(["status", "--store", str(tmp_path / "none")]) == 2
    assert "no store at" in capsys.readouterr().err
