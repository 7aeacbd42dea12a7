import json
import threading

import pytest

from dtx.errors import UserError
from dtx.running.runner import run
from dtx.store.inventory import (
    artefacts,
    existing,
    folder_size,
    last_touched,
    named_runs,
)
from dtx.store.store import DONE
from tests.toys import Number, Sum

ONE, TWO = Number(value=1), Number(value=2)
TOTAL = Sum(left=ONE, right=TWO)


def test_artefacts_are_read_without_their_stages(store, experiment_of):
    run(experiment_of(TOTAL))
    found = {a.label: a for a in artefacts(store.root)}
    assert set(found) == {TOTAL.label, ONE.label, TWO.label}
    assert sorted(found[TOTAL.label].inputs) == sorted([ONE.label, TWO.label])
    assert artefacts(store.root)[0].label == TOTAL.label or (
        found[TOTAL.label].finished == found[ONE.label].finished  # within the same second
    )
    newest = max(p.stat().st_mtime for p in store.folder(TOTAL).iterdir())
    assert abs(found[TOTAL.label].finished - newest) < 2
    assert last_touched(store.folder(TOTAL)) >= newest


def test_a_damaged_record_is_an_artefact_of_unknown_making(store, experiment_of):
    run(experiment_of(ONE))
    for text in ("{half", "[]", '{"files": 3}'):
        (store.folder(ONE) / DONE).write_text(text)
        (found,) = artefacts(store.root)
        assert found.record == {} and found.inputs == [] and found.size > 0


def test_named_runs(tmp_path):
    assert named_runs(tmp_path) == []
    (tmp_path / ".runs").mkdir()
    path = tmp_path / ".runs" / "mine.json"
    path.write_text(json.dumps({"name": "mine", "labels": ["ppo-1"]}))
    (one,) = named_runs(tmp_path)
    assert (one.name, one.labels, one.path) == ("mine", ["ppo-1"], path)
    path.write_text(json.dumps({"name": "mine"}))
    with pytest.raises(UserError, match="remove the file to forget"):
        named_runs(tmp_path)


def test_files_that_come_and_go_meanwhile_do_no_harm(tmp_path):
    """A stage that trains replaces its checkpoint all the time."""
    (tmp_path / "stays.txt").write_text("12345")
    ended = threading.Event()

    def replace():
        while not ended.is_set():
            (tmp_path / "resume.partial").write_text("x")
            (tmp_path / "resume.partial").unlink()

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        for _ in range(300):
            assert folder_size(tmp_path) in (5, 6) and last_touched(tmp_path) > 0
    finally:
        ended.set()
        writer.join()
    assert folder_size(tmp_path / "gone") == 0 and folder_size(tmp_path / "stays.txt") == 5


def test_a_store_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="no store at"):
        existing(tmp_path / "none")
