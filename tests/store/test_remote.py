"""Two machines (two store folders) and one remote store: a plain directory, and a real S3 server."""

import dataclasses
import multiprocessing
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from dtx.config.compose import StoreConfig
from dtx.errors import UserError
from dtx.running.plan import missing
from dtx.running.runner import run
from dtx.store.store import DONE, Store, use
from tests.store.remotes import (
    ONE,
    TOTAL,
    TWO,
    Somewhere,
    artefact,
    content,
)
from tests.toys import Number, Sum, runs


def test_second_machine_pulls_and_runs_nothing(place, machine, tmp_path):
    assert machine("a", place.url)(TOTAL) == ["ran"] * 3
    assert machine("b", place.url)(TOTAL) == ["not needed", "not needed", "pulled"]
    assert runs(tmp_path / "b", "sum") == runs(tmp_path / "b", "toys") == 0
    assert content(artefact(tmp_path, "a", TOTAL)) == content(artefact(tmp_path, "b", TOTAL))
    assert machine("b", place.url)(TOTAL) == ["not needed", "not needed", "reused"]
    assert TOTAL.load() == 3
    assert not list((tmp_path / "b" / "store" / ".work").iterdir())


def test_only_what_a_stage_reads_is_pulled(place, machine, tmp_path):
    machine("a", place.url)(TOTAL)
    other = Sum(left=ONE, right=Number(value=5))
    assert machine("b", place.url)(other) == ["pulled", "ran", "ran"]
    kept = {p.name for p in (tmp_path / "b" / "store").iterdir() if not p.name.startswith(".")}
    assert kept == {s.label for s in (ONE, other.right, other)}
    assert other.load() == 6


def test_planning_asks_once_and_pulls_nothing(place, machine, tmp_path):
    machine("a", place.url)(TOTAL)
    b = Store(tmp_path / "b" / "store", place.url)
    assert missing([TOTAL], b) == []
    assert b.where(TOTAL) == "remote" and b.has(ONE)
    assert b.where(Number(value=9)) is None
    assert b.done(TOTAL)["key"] == TOTAL.key
    shutil.rmtree(place.folder)
    assert b.where(TWO) == "remote"  # by the same listing
    assert not b.root.exists()


def test_reused_artefacts_are_pushed(place, machine):
    machine("a", None)(TOTAL)
    assert machine("a", place.url)(TOTAL) == ["reused"] * 3
    assert machine("b", place.url)(TOTAL, ONE, TWO) == ["pulled"] * 3


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda p: p.write_bytes(bytes([p.read_bytes()[0] ^ 1])), "checksum differs"),
        (lambda p: p.write_bytes(b"11"), "has 2 bytes instead of 1"),
        (lambda p: p.unlink(), "is missing"),
    ],
    ids=["flipped", "longer", "deleted"],
)
def test_changed_object_is_refused_and_the_remedy_works(place, machine, tmp_path, harm, words):
    machine("a", place.url)(ONE)
    harm(next((place.folder / ONE.label).rglob("value.txt")))
    place.changed()
    b = machine("b", place.url)
    with pytest.raises(UserError) as error:
        b(ONE)
    message = str(error.value)
    assert words in message and f"{place.url}/{ONE.label}" in message and "value.txt" in message
    assert "\n" not in message
    assert not artefact(tmp_path, "b", ONE).exists() and runs(tmp_path / "b", "toys") == 0
    (place.folder / f"{ONE.label}.json").unlink()
    shutil.rmtree(place.folder / ONE.label)
    place.changed()
    assert b(ONE) == ["ran"]
    assert machine("c", place.url)(ONE) == ["pulled"]


SHA = '"' + "0" * 64 + '"'


@pytest.mark.parametrize(
    "record",
    [
        *(
            b"{half",
            b"",
            b"null",
            b"[]",
            b"\xff",
            b"[" * 100_000,
            b"{}",
            b'{"files": {}}',
            b'{"files": []}',
        ),
        *(
            f'{{"files": {{"{name}": [1, {SHA}]}}}}'.encode()
            for name in (
                "../../stolen",
                "/etc/passwd",
                "a/../../b",
                "done.json",
                "",
                ".",
                "a\\u001bb",
            )
        ),
        b'{"files": {"value.txt": [1, "ab"]}}',
        f'{{"files": {{"value.txt": [-1, {SHA}]}}}}'.encode(),
        f'{{"files": {{"value.txt": ["1", {SHA}]}}}}'.encode(),
        b'{"files": {"value.txt": 3}}',
        f'{{"stage": "toys", "key": "0123", "files": {{"value.txt": [1, {SHA}]}}}}'.encode(),
    ],
)
def test_record_that_is_none_is_refused_and_pushed_anew(folder, machine, tmp_path, record):
    machine("a", folder.url)(ONE)
    (folder.folder / f"{ONE.label}.json").write_bytes(record)
    with pytest.raises(UserError, match=r"json is not readable"):
        machine("b", folder.url)(ONE)
    assert Store(tmp_path / "a" / "store", folder.url).remote.push(
        ONE.label, artefact(tmp_path, "a", ONE), (artefact(tmp_path, "a", ONE) / DONE).read_bytes()
    )
    assert machine("b", folder.url)(ONE) == ["pulled"]


def _run_on(root: Path, url: str, experiment) -> None:
    use(Store(root, url))
    run(dataclasses.replace(experiment, store=StoreConfig(path=root, remote=url)))


def kill_when(ready: Callable[[], bool], *args) -> None:
    """Run on another process, and SIGKILL it as soon as ``ready()``."""
    process = multiprocessing.get_context("spawn").Process(target=_run_on, args=args)
    process.start()
    while process.is_alive() and not ready():
        time.sleep(0.001)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, "it was over before it could be killed"


def test_killed_push_is_not_taken_for_whole_and_is_gone_on_with(
    place, machine, tmp_path, experiment_of
):
    there = place.folder / place.slow.label

    def arrived() -> list[Path]:
        return sorted(p for p in there.rglob("*.bin") if p.is_file())

    a = tmp_path / "a" / "store"
    kill_when(lambda: len(arrived()) > 3, a, place.url, experiment_of(place.slow))
    first = arrived()[:3]
    written = [p.stat().st_mtime_ns for p in first]
    assert len(arrived()) < place.slow.count
    assert artefact(tmp_path, "a", place.slow).exists()
    assert Store(tmp_path / "b" / "store", place.url).where(place.slow) is None
    assert machine("a", place.url)(place.slow) == ["reused"]
    assert [p.stat().st_mtime_ns for p in first] == written  # not sent again
    assert runs(tmp_path / "a", "files") == 1
    assert machine("b", place.url)(place.slow) == ["pulled"]
    assert content(artefact(tmp_path, "b", place.slow)) == content(
        artefact(tmp_path, "a", place.slow)
    )
    assert len([p for p in there.rglob("*") if p.is_file()]) == place.slow.count


def test_killed_pull_is_not_taken_for_whole_and_is_gone_on_with(
    place, machine, tmp_path, experiment_of
):
    machine("a", place.url)(place.slow)
    b = tmp_path / "b" / "store"
    arriving = b / ".work" / f"{place.slow.label}.pull"

    def arrived() -> list[Path]:
        return sorted(p for p in arriving.rglob("*.bin") if p.is_file())

    kill_when(lambda: len(arrived()) > 3, b, place.url, experiment_of(place.slow))
    assert Store(b).where(place.slow) is None
    sizes = {p: p.stat() for p in arrived()[:3]}
    (half := arrived()[3]).write_bytes(b"torn")  # as a crash of the whole machine leaves it
    assert machine("b", place.url)(place.slow) == ["pulled"]
    assert runs(tmp_path / "b", "files") == 0
    final = artefact(tmp_path, "b", place.slow)
    for path, before in sizes.items():
        kept = final / path.relative_to(arriving)
        assert kept.stat().st_mtime_ns == before.st_mtime_ns  # not fetched again
    assert (final / half.relative_to(arriving)).stat().st_size == place.slow.size
    assert content(final) == content(artefact(tmp_path, "a", place.slow))


def test_first_machine_wins(place, machine, tmp_path):
    stage = Somewhere()
    machine("a", None)(stage)
    machine("b", None)(stage)
    machine("a", place.url)(stage)
    before = content(place.folder)
    machine("b", place.url)(stage)
    assert content(place.folder) == before
    machine("c", place.url)(stage)
    assert (artefact(tmp_path, "c", stage) / "value.txt").read_text() == "a"
    assert (artefact(tmp_path, "b", stage) / "value.txt").read_text() == "b"


def test_half_pushes_of_two_machines_do_not_mix(place, machine, tmp_path):
    """The same stage, files of the same sizes, other content: sizes alone would not tell."""
    stage = Somewhere()
    machine("a", place.url)(stage)
    (place.folder / f"{stage.label}.json").unlink()  # killed just before the end
    place.changed()
    assert machine("b", place.url)(stage) == ["ran"]
    machine("c", place.url)(stage)
    assert (artefact(tmp_path, "c", stage) / "value.txt").read_text() == "b"
    assert (artefact(tmp_path, "c", stage) / "more.txt").read_text() == "b" * 100


def test_stage_that_another_machine_pushed_meanwhile_is_pulled(place, machine, tmp_path):
    b = Store(tmp_path / "b" / "store", place.url)
    assert b.where(ONE) is None
    machine("a", place.url)(ONE)
    with b.work(ONE) as work:
        assert work is None
    assert b.where(ONE) == "local"


def test_stage_to_be_made_here_is_not_pulled(folder, machine, tmp_path):
    machine("a", folder.url)(ONE)
    b = Store(tmp_path / "b" / "store", folder.url)
    b.only_here.add(ONE.label)
    assert b.where(ONE) is None
    with b.work(ONE) as work:
        assert work is not None


def test_processes_of_two_machines_at_once(place, machine, tmp_path, experiment_of):
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(
            target=_run_on, args=(tmp_path / name / "store", place.url, experiment_of(Somewhere()))
        )
        for name in ("a", "a", "b", "b")
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [w.exitcode for w in workers] == [0] * 4
    assert machine("c", place.url)(Somewhere()) == ["pulled"]


@pytest.mark.parametrize("name", ["", "/digest", "/digest/value.txt", ".json"])
def test_a_link_on_a_shared_folder_is_neither_read_nor_written_through(
    folder, machine, tmp_path, name
):
    machine("a", folder.url)(ONE)
    (digest,) = (folder.folder / ONE.label).iterdir()
    path = folder.folder / f"{ONE.label}{name.replace('digest', digest.name)}"
    real = tmp_path / "real"
    path.rename(real)
    path.symlink_to(real)
    before = content(tmp_path / "real") if real.is_dir() else real.read_bytes()
    store = Store(tmp_path / "b" / "store", folder.url)
    with pytest.raises(UserError, match=r"is a link: remove it; store\.remote=null goes on"):
        store.fetch(ONE)
    assert not (tmp_path / "b" / "store" / ONE.label).exists()
    if name != ".json":
        (folder.folder / f"{ONE.label}.json").unlink()
        with pytest.raises(UserError, match="is a link: remove it"):
            Store(tmp_path / "a" / "store", folder.url).push(ONE)
    assert (content(real) if real.is_dir() else real.read_bytes()) == before


def test_a_link_where_files_arrive_is_not_written_through(folder, machine, tmp_path):
    machine("a", folder.url)(ONE)
    arriving = tmp_path / "b" / "store" / ".work" / f"{ONE.label}.pull"
    for place in (arriving, arriving / "value.txt", arriving.parent):
        shutil.rmtree(tmp_path / "b", ignore_errors=True)
        place.parent.mkdir(parents=True)
        place.symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        with pytest.raises(UserError, match="is a link; dtx writes in a store itself only"):
            Store(tmp_path / "b" / "store", folder.url).fetch(ONE)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_half_a_record_of_a_killed_push_goes_with_the_next(folder, machine, tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "print()"])
    started = f"{psutil.Process(process.pid).create_time():.0f}"
    process.wait()
    half = f"{ONE.label}.json.part+{socket.gethostname()}+{process.pid}+{started}"
    (folder.folder / half).write_text("{")
    machine("a", folder.url)(ONE)
    assert {p.name for p in folder.folder.iterdir()} == {ONE.label, f"{ONE.label}.json"}
