"""``dtx redraw``: figures again from recorded results, without computing."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pandas as pd
import pytest

from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.result import About, Check, Result
from dtx.cli import main
from dtx.errors import UserError
from dtx.store.store import DONE, Store, use
from tests.toys import Number

CONFIG = """# @package analysis.{name}
_target_: tests.verbs.test_redraw.Toy
number: {{_target_: tests.toys.Number, value: {value}, sign: plus, parts: [], workers: 1}}
"""
QUIET = "tracking.enabled=false"
COLOUR = {"line": "#123456"}


@dataclass(frozen=True, kw_only=True)
class Toy(Analysis):
    """Draws multiples of a number."""

    number: Number

    def compute(self) -> Result:
        value = self.number.load()
        table = pd.DataFrame({"x": [0, 1, 2], "y": [0, value, 2 * value]})
        check = Check(name="zero times the number", error=0.0, tolerance=0.0)
        return Result(
            finding=f"{value}",
            metrics={"value": value},
            checks=[check],
            tables={"rows": table},
            about=About.INSTRUMENT,
        )

    def figures(self, result):
        from dtx.figures import new

        figure, axes = new(2, 2, mosaic=[["a"]])
        axes["a"].plot(result.tables["rows"].x, result.tables["rows"].y, color=COLOUR["line"])
        yield "multiples", figure


@pytest.fixture
def user(tmp_path, monkeypatch):
    """Configs of two toy analyses, both run; the store is under the working directory."""
    (tmp_path / "conf" / "analysis").mkdir(parents=True)
    for value, name in enumerate(("one", "two"), start=1):
        text = CONFIG.format(name=name, value=value)
        (tmp_path / "conf" / "analysis" / f"{name}.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert main(["run", "analysis=[one,two]", QUIET]) == 0
    return tmp_path


@pytest.fixture
def no_computing(monkeypatch):
    def compute(self):
        raise AssertionError("computed")

    monkeypatch.setattr(Toy, "compute", compute)


def toy(value: int) -> Toy:
    return Toy(number=Number(value=value))


def files(folder) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def test_figures_are_the_same_bytes_and_nothing_is_computed(user, no_computing, capsys):
    store = use(Store("store"))
    before = {value: files(store.folder(toy(value))) for value in (1, 2)}
    assert "figures/multiples.png" in before[1]
    (store.folder(toy(1)) / "done.json").touch()
    assert main(["redraw", "analysis=[one,two]"]) == 0
    assert {value: files(store.folder(toy(value))) for value in (1, 2)} == before
    out = capsys.readouterr().out
    assert out.count("redrawn") == 2 and f"2 files in store/{toy(1).label}/figures" in out


def test_another_colour_is_drawn_with_new_checksums(user, no_computing, monkeypatch):
    store = use(Store("store"))
    before = {value: files(store.folder(toy(value))) for value in (1, 2)}
    monkeypatch.setitem(COLOUR, "line", "#ff0000")
    assert main(["redraw", "two", "analysis=[one,two]"]) == 0
    assert files(store.folder(toy(1))) == before[1]
    after = files(store.folder(toy(2)))
    assert {n for n in after if after[n] != before[2][n]} == {
        "figures/multiples.png",
        "figures/test_redraw.html",  # the page that every analysis has shows the figure
        DONE,
    }
    Store("store").verify(toy(2))
    record, earlier = (json.loads(f[DONE]) for f in (after, before[2]))
    assert {k for k in record if record[k] != earlier[k]} == {"files"}
    assert list(record["files"]) == list(earlier["files"])


@pytest.mark.parametrize("step", [1, 2])
def test_a_kill_in_between_leaves_a_whole_artefact(user, no_computing, monkeypatch, step):
    """Killed at the first or the second writing of done.json: the rest verifies, and redraw mends it."""
    amend, times = Store.amend, []

    def killed(self, stage, values):
        times.append(stage)
        if len(times) == step:
            raise KeyboardInterrupt
        amend(self, stage, values)

    whole = files(Store("store").folder(toy(1)))
    with monkeypatch.context() as patch:
        patch.setattr(Store, "amend", killed)
        assert main(["redraw", "one", "analysis=[one]"]) == 130
    store = use(Store("store"))
    store.verify(toy(1))
    assert toy(1).result().metrics["value"] == 1
    assert not store.locked(toy(1).label)
    assert main(["redraw", "one", "analysis=[one]"]) == 0
    assert files(store.folder(toy(1))) == whole


def test_a_drawing_that_fails_changes_nothing(user, monkeypatch):
    store = use(Store("store"))
    before = files(store.folder(toy(1)))
    monkeypatch.setitem(COLOUR, "line", "no colour")
    with pytest.raises(ValueError, match="no colour"):
        main(["redraw", "one", "analysis=[one]"])
    assert files(store.folder(toy(1))) == before


def test_a_damaged_artefact_is_not_drawn(user, capsys):
    (Store("store").folder(toy(1)) / "tables" / "rows.parquet").write_bytes(b"")
    assert main(["redraw", "analysis=[one]"]) == 2
    assert "corrupt artefact" in capsys.readouterr().err


def test_without_a_recorded_result_there_is_one_line_and_the_others_are_drawn(user, capsys):
    store = use(Store("store"))
    (store.folder(toy(1)) / "result.json").unlink()
    known = store.done(toy(1))["files"]
    store.amend(toy(1), {"files": {n: f for n, f in known.items() if n != "result.json"}})
    assert main(["redraw", "analysis=[one,two]"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["skipped", "redrawn"]
    assert (
        f"no result.json, for an earlier version of dtx made it: `dtx invalidate {toy(1).label}`"
        in (lines[0])
    )


def test_what_is_not_in_the_store_is_skipped_and_nothing_to_draw_is_an_error(user, capsys):
    assert main(["redraw", "analysis=[one]", "analysis.one.number.value=7"]) == 2
    said = capsys.readouterr()
    assert "not in the store" in said.out and "nothing was redrawn" in said.err


def test_all_jobs_of_a_sweep(user, no_computing, capsys):
    assert main(["redraw", "-m", "analysis=[one]", "analysis.one.number.value=1,2"]) == 0
    assert capsys.readouterr().out.count("redrawn") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["onn", "analysis=[one]"], "onn: no analysis of that name here (did you mean 'one'?)"),
        (["target=agent"], "no analysis is composed"),
    ],
)
def test_mistakes_are_one_line(user, capsys, words, message):
    assert main(["redraw", *words]) == 2
    assert message in capsys.readouterr().err


def test_only_one_folder_is_replaced(store):
    number = Number(value=1)
    with store.work(number) as work:
        (work / "value.txt").write_text("1")
        (work / "figures").mkdir()
        (work / "figures" / "old.png").write_text("old")
        store.commit(number, work, {"seconds": 1})

    def write(folder):
        (folder / "value.txt").write_text("2")
        (folder / "figures" / "old.png").unlink()
        (folder / "figures" / "new.png").write_text("new")

    assert store.replace_folder(number, "figures", write) == ["figures/new.png"]
    assert files(store.folder(number)).keys() == {"value.txt", "figures/new.png", DONE}
    assert number.load() == 1
    with pytest.raises(UserError, match=r"done.json is missing"):
        store.replace_folder(Number(value=2), "figures", write)
