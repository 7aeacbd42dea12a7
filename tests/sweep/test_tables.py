"""The tables of a comparison as they are printed."""

import pytest
from rich.console import Console

from dtx.sweep.compare import Comparison
from dtx.sweep.tables import listing, tables


def printed(rows: list[dict], *questions: str) -> list[str]:
    metrics = ["m/score", "n/other_thing"]
    comparison = Comparison(rows, list(questions), every=metrics, metrics=metrics)
    console = Console(width=120)
    with console.capture() as output:
        for table in tables(comparison):
            console.print(table)
    return [line.rstrip() for line in output.get().splitlines()]


def job(number: int, layers: int, seed: int, score: float) -> dict:
    return {"job": number, "dt.n_layers": layers, "dt.seed": seed, "m/score": score} | {
        "n/other_thing": 1.0
    }


ROWS = [job(0, 1, 0, 0.1), job(1, 1, 1, 0.3), job(2, 2, 0, 0.8), job(3, 2, 1, 0.9)]


def test_a_table_for_each_group_of_metrics_with_intervals_over_seeds():
    first, header, one, two, note, second, *_ = printed(ROWS, "dt.n_layers")
    assert first == "m by dt.n_layers" and second == "n by dt.n_layers"
    assert header.split() == ["dt.n_layers", "jobs", "score"]
    assert one.split()[:3] == ["1", "2", "0.2"] and one.endswith("[-1.07, 1.47]")
    assert two.split()[:3] == ["2", "2", "0.85"]
    assert note == "mean [95% interval, t over 2 seeds]"


def test_one_job_has_no_interval():
    lines = printed([ROWS[0], ROWS[2]], "dt.n_layers")
    assert lines[2].split() == ["1", "1", "0.1"] and not any("[" in line for line in lines)


def test_of_a_swept_seed_the_mean_over_all_stands_below():
    rows = [job(i, 1, i, score) for i, score in enumerate((0.1, 0.2, 0.6))]
    lines = printed(rows, "dt.seed")
    assert [line.split()[:3] for line in lines[2:5]] == [
        ["0", "1", "0.1"],
        ["1", "1", "0.2"],
        ["2", "1", "0.6"],
    ]
    assert lines[5].split()[:3] == ["mean", "3", "0.3"] and "[" in lines[5]
    assert lines[6] == "mean [95% interval, t over 3 jobs]"


def test_what_is_missing_is_a_dash():
    rows = [{**ROWS[0], "m/score": None}, ROWS[2]]
    assert printed(rows, "dt.n_layers")[2].split() == ["1", "1", "-"]


def test_many_values_are_cut():
    rows = [job(i, i, 0, 0.5) for i in range(60)]
    lines = printed(rows, "dt.n_layers")
    assert "the first 40 of 60 values" in lines
    assert [line.split()[0] for line in lines[2:42]] == [str(i) for i in range(40)]


@pytest.mark.parametrize("rows", [ROWS, [{**row, "m/score": None} for row in ROWS]])
def test_the_listing_has_all_metrics_with_their_range(rows):
    comparison = Comparison(rows, every=["m/score", "n/other_thing"], metrics=["m/score"])
    _, score, other, _ = listing(comparison).splitlines()
    known = rows[0]["m/score"] is not None
    assert score.split() == ["m/score*", *(["4", "0.1", "0.9"] if known else ["0", "-", "-"])]
    assert other.split() == ["n/other_thing", "4", "1", "1"]
