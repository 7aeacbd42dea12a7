"""Marks of processes that were killed while they tracked a run."""

from dtx.run.processes import killed_before, marked, process_tags


def test_a_killed_process_is_listed_until_its_runs_are_settled(store):
    host = process_tags()["dtx.host"]
    with marked(store.root):
        mark = store.root / ".tracking" / f"{host}+999999999+1"
        mark.touch()
        (mark.parent / "elsewhere+999999999+1").touch()
        assert (
            killed_before(store.root) == killed_before(store.root) == [mark]
        )  # asking forgets nothing
    mark.unlink()
    assert killed_before(store.root) == []
