import json

import pytest

from dtx.cli import main
from tests.toys import runs

TOY = """# @package analysis.toy
_target_: tests.toys.Number
value: ${seed}
sign: plus
parts: []
workers: 1
"""
SUM = """# @package analysis.sum
_target_: tests.toys.Sum
left: ${analysis.toy}
right: ${analysis.toy}
seconds: 0
fail: ""
"""
PRESET = """# @package _global_
defaults:
  - override /analysis: [toy, sum]
target: analysis
"""


@pytest.fixture
def user(tmp_path, monkeypatch):
    """A user's folder with a preset whose one number is its seed."""
    for name, text in (("analysis/toy", TOY), ("analysis/sum", SUM), ("experiment/toy", PRESET)):
        path = tmp_path / "mine" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def expect(folder, low: float, high: float, of: str = "sum.left", name: str = "toy/value") -> None:
    content = {"seeds": [1, 2], "numbers": {name: {"of": of, "low": low, "high": high}}}
    (folder / "expected.json").write_text(json.dumps(content))


def reproduce(*args: str, preset: str = "toy") -> int:
    mine = ["--config-dir", "mine", "--expected", "expected.json", "tracking.enabled=false"]
    return main(["reproduce", preset, *mine, *args])


def test_runs_every_seed_and_compares_the_mean(user, capsys):
    expect(user, 1.5, 1.6)
    assert reproduce() == 0
    header, row, told = capsys.readouterr().out.splitlines()
    assert header.split()[:5] == ["number", "mean", "of", "2", "seeds"]
    assert row.split() == ["toy/value", "1.500", "1.5", "to", "1.6", "yes", "1.000", "2.000"]
    assert told == "all numbers are within their tolerance (1)"
    assert runs(user, "toys") == 2
    expect(user, 1.6, 1.7)
    assert reproduce() == 1
    out, error = capsys.readouterr()
    assert "outside its tolerance: toy/value of sum.left is 1.500, expected 1.6 to 1.7" in out
    assert error.count("0 of 2 stages ran") == 2
    assert runs(user, "toys") == 2


def test_an_input_that_is_gone_is_made_again(user):
    """The finished sums would do without; the number is the input's."""
    expect(user, 1.5, 1.5)
    reproduce()
    for path in (user / "store").glob("toys-*/headline.json"):
        main(["invalidate", path.parent.name])
    assert reproduce() == 0
    assert runs(user, "toys") == 4 and runs(user, "sum") == 2


def test_overrides_change_what_is_run(user, capsys):
    expect(user, 7, 7)
    assert reproduce("analysis.toy.value=7") == 0
    assert reproduce("seed=3") == 2
    assert "name their seeds" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"preset": "tyo"}, "experiment/tyo: no such config (did you mean 'toy'?)"),
        ({"of": "sum.lfet"}, "did you mean 'left'"),
        ({"overrides": ["analysis.toy.valeu=1"]}, "did you mean 'value'"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(user, capsys, change, words):
    expect(user, 0, 1, of=change.get("of", "sum.left"))
    assert reproduce(*change.get("overrides", []), preset=change.get("preset", "toy")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not (user / "store").exists()


def test_a_preset_of_which_nothing_is_expected(capsys):
    assert main(["reproduce", "quickstart"]) == 2
    assert "name a file with --expected" in capsys.readouterr().err
