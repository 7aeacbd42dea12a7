import json

import numpy as np
import pandas as pd
import pytest

from dtx.report import Report, read_curves, read_metrics
from dtx.statistics import spearman


def test_curves_can_be_rewound_to_a_checkpoint(tmp_path):
    report = Report(tmp_path)
    report.curve(0, {"a": 1.0})
    position = report.position()
    report.curve(1, {"a": float("nan")})
    report.curve(2, {"a": 3.0})
    assert [p["a"] for p in read_curves(tmp_path)] == [1.0, None, 3.0]
    report.rewind(position)
    report.curve(1, {"a": 5.0})
    assert read_curves(tmp_path) == [{"step": 0, "a": 1.0}, {"step": 1, "a": 5.0}]


def test_headline_adds_up_and_a_missing_number_stays_missing(tmp_path):
    report = Report(tmp_path)
    report.headline({"a/b": 1, "a/c": float("inf")})
    report.headline({"a/d": 2.5, "a/b": 3})
    assert read_metrics(tmp_path) == {"a/b": 3.0, "a/c": None, "a/d": 2.5}
    json.loads((tmp_path / "headline.json").read_text())


def test_tables_and_figures_are_files_that_open_alone(tmp_path):
    import plotly.graph_objects as go

    from dtx.figures import new

    report = Report(tmp_path)
    report.table("t", pd.DataFrame({"x": [1, 2]}))
    assert pd.read_parquet(tmp_path / "tables" / "t.parquet").x.tolist() == [1, 2]
    for name in ("one", "two"):
        figure, axes = new(mosaic=[["a"]])
        axes["a"].plot([1, 2])
        report.figure(name, figure)
    one, two = ((tmp_path / "figures" / f"{n}.png").read_bytes() for n in ("one", "two"))
    assert one == two and one[:4] == b"\x89PNG"
    report.page("page", go.Figure(go.Scatter(x=[1], y=[2])))
    assert "Plotly.react" in (tmp_path / "figures" / "page.html").read_text()


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 2, 3, 4], [1, 4, 9, 16], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 2, 2, 3], [1, 2, 2, 3], 1.0),
        ([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], 0.8),
    ],
)
def test_spearman(a, b, expected):
    assert spearman(np.array(a), np.array(b)) == pytest.approx(expected)


def test_spearman_of_a_constant_is_missing():
    assert np.isnan(spearman(np.arange(4), np.ones(4)))
