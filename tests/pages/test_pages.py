"""Pages: escaping, plotly's script once a store, and copies that stand alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import plotly.graph_objects as go
import pytest
from jinja2 import UndefinedError

from dtx import pages
from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.result import About, Check, Claim, Control, Relation, Result, Verdict
from dtx.figures import new
from dtx.report import Report
from dtx.running.runner import run
from tests.pages.reading import Page

HOSTILE = "</script><script>alert('x')</script>\"&<b onclick=x>"
"""A name as an environment, a layout or a stage of somebody else might have it."""


@dataclass(frozen=True, kw_only=True)
class Drawn(Analysis):
    """An analysis with hostile words everywhere; interactive on request."""

    question: ClassVar[str] = f"Is it {HOSTILE}?"

    interactive: bool

    def compute(self) -> Result:
        claim = Claim(
            id="c", text=HOSTILE, criterion=HOSTILE, evidence=HOSTILE, verdict=Verdict.DEPENDS
        )
        table = pd.DataFrame(
            {HOSTILE: [HOSTILE, None], "value": [1 / 3, float("nan")], "n": [12345, 2], "on": True}
        )
        many = pd.DataFrame({"i": range(1000)})
        return Result(
            finding=f"found {HOSTILE}",
            metrics={HOSTILE: 1 / 3, "missing": None},
            checks=[Check(name=HOSTILE, error=1e-9, tolerance=1e-3)],
            controls=[Control(name=HOSTILE, value=2.0, must_be=Relation.ABOVE, against=1.0)],
            claims=[claim],
            tables={"values": table, "many": many},
            distinct_inputs=7,
            about=About.MODEL,
        )

    def figures(self, result: Result) -> Iterator[tuple[str, Any]]:
        figure, axes = new(mosaic=[["a"]])
        axes["a"].plot([0, 1])
        yield "line", figure
        if self.interactive:
            yield (
                "shown",
                go.Figure(
                    go.Scatter(x=[1], y=[2], name=HOSTILE, marker={"color": "#000000"}),
                    layout={"title": f"first<br>{HOSTILE}", "template": "plotly_white"},
                ),
            )


@pytest.fixture
def made(store, experiment_of):
    def make(interactive: bool) -> Drawn:
        stage = Drawn(interactive=interactive)
        run(experiment_of(stage))
        return stage

    return make


@pytest.mark.parametrize("interactive", [False, True])
def test_every_analysis_has_a_page_that_shows_words_as_words(made, interactive):
    stage = made(interactive)
    (path,) = (stage.path / "figures").glob("*.html")
    assert path.stem == ("shown" if interactive else stage.name)
    page = Page.of(path)
    assert page.problems == [] and page.external == []
    # Claim, criterion, evidence; check, control; metric; a column and a cell; finding and question.
    assert page.text.count(HOSTILE) == 10
    assert not any(script.startswith("alert") for script in page.scripts)
    assert "✓ holds" in page.text and "◐ depends" in page.text  # a symbol beside the colour
    assert "0.3333" in page.text and 'data-value="0.3333333333333333"' in path.read_text()
    assert "the first 200 of 1,000 rows" in page.text and "../tables/many.parquet" in page.links
    assert (stage.path / "tables" / "many.parquet").is_file()
    (picture,) = page.pictures
    assert (picture["width"], picture["height"]) == ("980", "588") and picture["loading"] == "lazy"


def test_plotlys_script_is_once_in_a_store_and_in_the_copy_for_mlflow(made, store):
    plain = made(False)
    script = store.root / pages.FOLDER
    assert not script.exists()  # nothing needs it
    assert pages.standalone(plain.path / "figures" / f"{plain.name}.html") is None
    assert pages.standalone(plain.path / "figures" / "line.png") is None
    path = made(True).path / "figures" / "shown.html"
    (copy,) = script.iterdir()
    assert (path.parent / next(a for a in Page.of(path).links if a.endswith(".js"))).samefile(copy)
    assert path.stat().st_size < 200_000 < copy.stat().st_size
    alone = pages.standalone(path)
    assert alone is not None and copy.read_text()[:5000] in alone
    assert [a for a in Page(alone).links if a.endswith(".js")] == []


def test_mlflow_gets_pages_that_stand_alone(store, database, tmp_path, experiment_of):
    stage = Drawn(interactive=True)
    run(experiment_of(stage, tracking=True))
    alone = pages.standalone(stage.path / "figures" / "shown.html")
    (sent,) = tmp_path.rglob("artifacts/figures/shown.html")
    assert sent.read_text("utf-8") == alone


def test_figures_that_are_drawn_again_find_the_script_too(made, store):
    stage = made(True)
    (copy,) = (store.root / pages.FOLDER).iterdir()
    copy.unlink()
    store.replace_folder(stage, "figures", stage.redraw)
    assert copy.is_file()


def test_the_colours_of_a_figure_are_the_pages(made):
    page = made(True).path / "figures" / "shown.html"
    text = page.read_text()
    assert "first; alert" in Page.of(page).text  # the title, as text that wraps
    assert "plotly_white" not in text and '"template"' not in text
    assert "prefers-color-scheme: dark" in text


def test_a_stage_that_is_no_analysis_has_plotly_figures_too(tmp_path):
    Report(tmp_path).page("curve", go.Figure(go.Heatmap(z=[[1, 2], [3, 4]])))
    page = Page.of(tmp_path / "figures" / "curve.html")
    assert page.problems == [] and page.external == [] and "curve" in page.ids
    assert pages.read_script(tmp_path)


def test_a_name_that_a_template_misses_is_an_error():
    with pytest.raises(UndefinedError):
        pages.render("pages/plot.html")


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("a", ["a"]),
        ("a; b", ["a", "b"]),
        ("a (b; c); d [e; f]", ["a (b; c)", "d [e; f]"]),
        ("a); b", ["a)", "b"]),
    ],
)
def test_sentences_are_divided_outside_brackets(text, clauses):
    assert pages._clauses(text) == clauses
