import json
import multiprocessing
import os
import socket
import threading
import time

import pytest

from dtx.errors import Interrupted, UserError
from dtx.running.plan import missing, stages
from dtx.running.runner import StagesFailed, run
from dtx.store.sessions import SESSIONS
from dtx.store.store import DONE, Store, use
from tests.toys import Number, Sum, runs

ONE, TWO = Number(value=1), Number(value=2)
TOTAL = Sum(left=ONE, right=TWO)


def test_commit_is_whole_or_absent(store):
    with store.work(ONE) as work:
        (work / "value.txt").write_text("1")
        assert not store.has(ONE)
        store.commit(ONE, work, {"seconds": 1})
    assert store.has(ONE)
    assert not work.exists()
    assert store.done(ONE)["files"].keys() == {"value.txt"}
    assert ONE.load() == 1


def test_half_written_files_of_a_killed_process_are_not_committed(store):
    with store.work(ONE) as work:
        (work / "value.txt").write_text("1")
        (work / "tables").mkdir()
        for name in ("done.json.partial", "resume.partial", "tables/all.parquet.partial"):
            (work / name).write_text("half")
        store.commit(ONE, work, {})
    assert store.done(ONE)["files"].keys() == {"value.txt"}
    assert ONE.load() == 1 and not list(store.root.rglob("*.partial"))


def test_folder_without_done_is_no_artefact_and_is_not_overwritten(store, experiment_of):
    store.folder(ONE).mkdir(parents=True)
    (store.folder(ONE) / "precious.txt").write_text("somebody's")
    assert not store.has(ONE)
    run(experiment_of(ONE))
    assert store.has(ONE)
    kept = list((store.root / ".invalid").glob("*/precious.txt"))
    assert len(kept) == 1


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda p: p.write_bytes(b"9"), "checksum differs"),
        (lambda p: p.write_bytes(b""), "has 0 bytes instead of 1"),
        (lambda p: p.unlink(), "is missing"),
    ],
)
def test_corrupt_file_is_named_with_a_remedy(store, experiment_of, harm, words):
    run(experiment_of(TOTAL))
    harm(store.folder(ONE) / "value.txt")
    fresh = use(Store(store.root))
    for broken in (
        lambda: ONE.load(),
        lambda: run(experiment_of(TOTAL)),
        lambda: run(experiment_of(Sum(left=ONE, right=ONE))),
    ):
        with pytest.raises(UserError) as error:
            broken()
        assert words in str(error.value)
        assert "value.txt" in str(error.value) and f"dtx invalidate {ONE.label}" in str(error.value)
    assert fresh.invalidate(ONE.label)
    outcomes = run(experiment_of(Sum(left=ONE, right=ONE)))
    assert [o.status for o in outcomes] == ["ran", "ran"]


def test_unreadable_done_is_corrupt_not_a_crash(store, experiment_of):
    run(experiment_of(ONE))
    (store.folder(ONE) / DONE).write_text("{half")
    with pytest.raises(UserError, match="not readable"):
        run(experiment_of(ONE))


def test_second_run_reuses_everything(store, experiment_of, tmp_path):
    first = run(experiment_of(TOTAL))
    assert [o.status for o in first] == ["ran"] * 3
    second = run(experiment_of(TOTAL))
    assert [o.status for o in second] == ["reused"] * 3
    assert runs(tmp_path, "toys") == 2
    assert TOTAL.load() == 3


def test_only_what_changed_runs(store, experiment_of, tmp_path):
    run(experiment_of(TOTAL))
    outcomes = run(experiment_of(Sum(left=ONE, right=Number(value=5))))
    assert [o.status for o in outcomes] == ["reused", "ran", "ran"]


def test_committed_target_stands_for_its_inputs(store, experiment_of):
    run(experiment_of(TOTAL))
    store.invalidate("toys-" + ONE.key)
    assert missing([TOTAL], store) == []
    assert [o.status for o in run(experiment_of(TOTAL))] == ["not needed", "reused", "reused"]


def test_shared_inputs_run_once():
    both = [TOTAL, Sum(left=TWO, right=ONE)]
    assert len(stages(both)) == 4


def test_interrupted_work_is_kept_and_gone_on_with(store, experiment_of, tmp_path):
    stage = Sum(left=ONE, right=TWO, fail="interrupt")
    with pytest.raises(Interrupted):
        run(experiment_of(stage))
    assert store.has(ONE) and not store.has(stage)
    assert (store.root / ".work" / stage.label / "half.txt").exists()
    outcomes = run(experiment_of(stage))
    assert [o.status for o in outcomes] == ["reused", "reused", "ran"]
    assert "half.txt" not in store.done(stage)["files"]


def test_defect_leaves_no_artefact_and_frees_the_lock(store, experiment_of):
    stage = Sum(left=ONE, right=TWO, fail="bug")
    for _ in range(2):
        with pytest.raises(StagesFailed, match="a defect"):
            run(experiment_of(stage))
        assert not store.has(stage) and not store.locked(stage.label)


def test_done_tells_where_an_artefact_comes_from(store, experiment_of):
    run(experiment_of(TOTAL))
    record = json.loads((store.folder(TOTAL) / DONE).read_text())
    assert record["inputs"] == {"left": ONE.label, "right": TWO.label}
    assert record["config"]["seconds"] == 0.0
    assert record["seconds"] >= 0 and record["peak_memory_mb"] > 0
    assert {"python", "torch", "dtx"} & set(record["packages"]) and "cores" in record["host"]


def _run_in_process(root, experiment):
    use(Store(root))
    run(experiment)


def test_processes_that_need_the_same_stage_run_it_once(store, experiment_of, tmp_path):
    stage = Sum(left=ONE, right=TWO, seconds=0.5)
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_run_in_process, args=(store.root, experiment_of(stage)))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [w.exitcode for w in workers] == [0] * 4
    assert runs(tmp_path, "sum") == 1 and runs(tmp_path, "toys") == 2


def _hold(root, seconds):
    with Store(root).work(ONE):
        time.sleep(seconds)


def held_by_another_process(store, seconds=60):
    holder = multiprocessing.get_context("spawn").Process(target=_hold, args=(store.root, seconds))
    holder.start()
    while not list((store.root / ".locks").glob("*.holder")):
        time.sleep(0.05)
    return holder


def test_lock_of_a_dead_process_is_taken_over(store):
    holder = held_by_another_process(store)
    assert store.locked(ONE.label) and store.holder(ONE.label)["pid"] == holder.pid
    holder.kill()
    holder.join()
    assert not store.locked(ONE.label) and store.holder(ONE.label) is None
    start = time.monotonic()
    with store.work(ONE) as work:
        assert work is not None
    assert time.monotonic() - start < 5


def test_who_waits_says_for_what_and_on_whom(store, capsys):
    holder = held_by_another_process(store)
    killer = threading.Timer(0.5, holder.kill)
    killer.start()
    with store.work(ONE) as work:
        assert work is not None
    killer.join()
    holder.join()
    said = " ".join(capsys.readouterr().err.split())
    assert f"waiting for {ONE.label}: process {holder.pid} on {socket.gethostname()}" in said


def test_sessions_that_were_interrupted_are_counted(store, experiment_of):
    stage = Sum(left=ONE, right=TWO, fail="interrupt")
    assert not store.begun(stage) and store.interruptions(stage) == 0
    with pytest.raises(Interrupted):
        run(experiment_of(stage))
    assert store.begun(stage) and store.interruptions(stage) == 1
    assert store.earlier_seconds(stage) > 0
    run(experiment_of(stage))
    assert SESSIONS not in store.done(stage)["files"]
    assert not (store.folder(stage) / SESSIONS).exists()


def test_killed_session_lasted_until_its_newest_file(store):
    holder = held_by_another_process(store)
    work = store.root / ".work" / ONE.label
    while not (work / SESSIONS).exists():
        time.sleep(0.05)
    holder.kill()
    holder.join()
    [session] = json.loads((work / SESSIONS).read_text())
    assert session["seconds"] is None and store.interruptions(ONE) == 0
    (work / "half.txt").write_text("half")
    os.utime(work / "half.txt", (session["started"] + 7, session["started"] + 7))
    os.utime(work / SESSIONS, (session["started"], session["started"]))
    with store.work(ONE):
        assert store.interruptions(ONE) == 1
        assert store.earlier_seconds(ONE) == pytest.approx(7, abs=0.01)
