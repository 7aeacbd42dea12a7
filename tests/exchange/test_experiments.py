"""Experiments from Python: composed, run, and shown in a notebook."""

from html.parser import HTMLParser

import pytest

import dtx
from dtx.config.build import ConfigError
from dtx.errors import UnknownName
from dtx.exchange.handles import LoadedAnalysis
from tests.fast import FAST

QUIET = [*(o for o in FAST if not o.startswith("analysis.cal")), "tracking.enabled=false"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Tags(HTMLParser):
    """Whether the tags of a text are closed in order; which there are."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.seen = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_an_experiment_is_composed_and_typed(folder):
    what = dtx.compose("dt=small", seed=3, **{"dt.steps": 700})
    assert what.targets["calibration"].dt.steps == 700
    assert what.targets["calibration"].dt.seed == 3
    assert not list(folder.iterdir())
    with pytest.raises(ConfigError, match=r"dt\.stepz.*did you mean 'steps'"):
        dtx.compose(**{"dt.stepz": 7})


def test_a_run_gives_its_results_and_a_second_one_the_same(folder):
    done = dtx.run("analysis=[demonstrations]", *QUIET)
    assert list(done) == ["demonstrations"] and (folder / "store").is_dir()
    handle = done["demonstrations"]
    assert isinstance(handle, LoadedAnalysis) and handle.result.established
    assert handle.summary in repr(done)
    again = dtx.run("analysis=[demonstrations]", *QUIET)
    assert {o.status for o in again.outcomes} == {"reused"}
    assert again["demonstrations"].label == handle.label

    seen = Tags(done._repr_html_()).seen
    assert seen.count("tr") == 1 + len(done.outcomes)
    shown = handle._repr_html_()
    assert Tags(shown).seen.count("img") == sum(n.endswith(".png") for n in handle.figures)
    assert "<script" not in shown and "established" in shown


def test_wrong_names_are_told_with_the_nearest(folder):
    done = dtx.run("analysis=[demonstrations]", *QUIET)
    handle = done["demonstrations"]
    for get, words in (
        (lambda: done["demonstration"], "no target 'demonstration' .did you mean 'demonstrations'"),
        (lambda: handle.figures["returns.pn"], "no figure 'returns.pn' .did you mean"),
        (lambda: handle.tables["audits"], "no table 'audits' .did you mean 'audit'"),
        (lambda: handle.headline["demonstrations/epsodes"], "no number .*did you mean"),
    ):
        with pytest.raises(UnknownName, match=words) as told:
            get()
        assert isinstance(told.value, KeyError)
    assert handle.figures.get("nothing") is None and "nothing" not in handle.tables


def test_what_is_foreign_is_escaped(folder):
    done = dtx.run("analysis=[demonstrations]", *QUIET)
    handle = done["demonstrations"]
    handle.origin.record["key"] = "<script>alert(1)</script>"
    assert "<script" not in handle._repr_html_()
