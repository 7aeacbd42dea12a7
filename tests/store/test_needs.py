import json
import multiprocessing
import time

from dtx.store.garbage import Item, collect
from dtx.store.needs import NEEDED, in_use, protected
from dtx.store.store import Store
from tests.toys import Number

ONE = Number(value=1)
SPAWN = multiprocessing.get_context("spawn")


def _hold(root, labels):
    with protected(root, labels):
        time.sleep(60)


def test_a_list_stands_while_the_process_lives(tmp_path):
    process = SPAWN.Process(target=_hold, args=(tmp_path, ["ppo-1", "dt-2"]))
    process.start()
    while not in_use(tmp_path):
        time.sleep(0.02)
    (use,) = in_use(tmp_path)
    assert use.living and use.labels == {"ppo-1", "dt-2"} and str(process.pid) in use.who
    process.kill()
    process.join()
    (use,) = in_use(tmp_path)
    assert not use.living  # but it stays: the same command goes on from there
    with protected(tmp_path, ["dt-2"]):  # another experiment
        pass
    assert len(in_use(tmp_path)) == 1
    with protected(tmp_path, ["dt-2", "ppo-1"]):
        assert len(in_use(tmp_path)) == 2
    assert in_use(tmp_path) == []
    assert [p.name for p in (tmp_path / NEEDED).iterdir()] == ["gate.lock"]


def test_a_run_that_fails_leaves_its_list(tmp_path):
    try:
        with protected(tmp_path, ["ppo-1"]):
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert [n.living for n in in_use(tmp_path)] == [False]


def test_an_unreadable_list_is_nobodys(tmp_path):
    (tmp_path / NEEDED).mkdir()
    for text in ("{half", json.dumps({"labels": ["x"]}), "[]"):
        (tmp_path / NEEDED / "x-1.json").write_text(text)
        assert in_use(tmp_path) == []


def test_a_store_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with protected(tmp_path / "file", ["ppo-1"]):
        pass


def _read(root, stop, reads):
    """Read the artefact whenever it is there; it must not go while a list names it."""
    store = Store(root)
    while not stop.is_set():
        with protected(root, [ONE.label]):
            if store.has(ONE):
                time.sleep(0.002)
                assert store.artefact(ONE).joinpath("value.txt").read_text() == "1"
                reads.value += 1


def test_what_a_run_found_there_stays_while_it_runs(tmp_path):
    """Collecting over and over beside a process that reads over and over."""
    store, stop, reads = Store(tmp_path), SPAWN.Event(), SPAWN.Value("i", 0)
    reader = SPAWN.Process(target=_read, args=(tmp_path, stop, reads))
    reader.start()
    taken = spared = 0
    while (taken < 20 or spared < 5 or reads.value < 20) and reader.is_alive():
        with store.work(ONE) as work:
            if work is not None:
                (work / "value.txt").write_text("1")
                store.commit(ONE, work, {})
        time.sleep(0.001 * (taken % 5))
        gone, kept = collect(tmp_path, [Item(store.folder(ONE), "artefact", 1, "")])
        taken, spared = taken + len(gone), spared + len(kept)
    stop.set()
    reader.join()
    assert reader.exitcode == 0
    assert taken >= 20 and spared >= 5 and reads.value >= 20
