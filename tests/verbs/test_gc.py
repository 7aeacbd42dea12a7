import json

import pytest

from dtx.cli import main
from dtx.store.inventory import artefacts

TOY = """# @package analysis.toy
_target_: tests.toys.Sum
left: {_target_: tests.toys.Number, value: 1, sign: plus, parts: [], workers: 1}
right: {_base_: "${analysis.toy.left}", value: 2}
seconds: 0
fail: ""
"""
PRESET = """# @package _global_
defaults:
  - override /analysis: [toy]
"""


@pytest.fixture
def user(tmp_path, monkeypatch):
    """A user's folder with an analysis, a preset that reaches three stages, and two more in the store."""
    for name, text in (("analysis/toy", TOY), ("experiment/toy", PRESET)):
        path = tmp_path / "mine" / f"{name}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    assert dtx("run") == 0
    assert dtx("run", "analysis.toy.right.value=7") == 0
    return tmp_path


def dtx(verb: str, *args: str) -> int:
    return main([verb, "--config-dir", "mine", "experiment=toy", "tracking.enabled=false", *args])


def gc(*args: str) -> int:
    return main(["gc", "--config-dir", "mine", "--older", "0", *args])


def test_dry_by_default_then_deleted_and_the_preset_is_whole(user, capsys):
    assert gc() == 0
    out = capsys.readouterr().out
    assert "would go: 2 artefacts" in out and "stays: 3 artefacts" in out
    assert "nothing was deleted" in out and "preset toy" in out
    assert len(artefacts(user / "store")) == 5
    assert gc("--delete") == 0
    assert "gone: 2 artefacts" in capsys.readouterr().out
    assert len(artefacts(user / "store")) == 3
    assert dtx("run") == 0
    assert "everything reused (3 stages)" in capsys.readouterr().err


def test_a_named_run_keeps_until_it_is_forgotten(user, capsys):
    (user / "store" / ".runs").mkdir(exist_ok=True)
    labels = [a.label for a in artefacts(user / "store")]
    note = {"name": "first", "finished": "2026-01-01T00:00:00", "overrides": [], "labels": labels}
    (user / "store" / ".runs" / "first.json").write_text(json.dumps(note))
    assert gc("--delete") == 0
    assert "run first" in capsys.readouterr().out
    assert len(artefacts(user / "store")) == 5
    assert gc("--forget", "frist") == 2
    assert "did you mean 'first'" in capsys.readouterr().err
    assert gc("--forget", "first") == 0
    assert not (user / "store" / ".runs" / "first.json").exists()


def test_keep_takes_a_beginning_and_its_inputs(user, capsys):
    gc()
    lines = capsys.readouterr().out.splitlines()
    spare = {line.split()[0] for line in lines if "toys-" in line and "preset" not in line}
    total = next(a.label for a in artefacts(user / "store") if a.inputs and a.label in spare)
    assert gc("--keep", total[:12], total) == 0
    assert f"--keep {total[:12]}" in capsys.readouterr().out
    assert gc("--keep", "toyz") == 2
    assert "--keep toyz: nothing in" in capsys.readouterr().err


def test_a_preset_that_cannot_be_composed_deletes_nothing(user, capsys):
    (user / "mine" / "experiment" / "broken.yaml").write_text(
        "# @package _global_\ndt: {stepps: 1}\n"
    )
    assert gc("--delete") == 2
    error = capsys.readouterr().err
    assert "preset broken cannot be composed" in error and "did you mean 'steps'" in error
    assert "Traceback" not in error
    assert len(artefacts(user / "store")) == 5


def test_no_store_is_one_line(tmp_path, capsys):
    assert main(["gc", "--store", str(tmp_path / "none")]) == 2
    assert "no store at" in capsys.readouterr().err
