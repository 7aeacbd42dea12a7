"""Comparisons of a sweep's jobs."""

import contextlib
import math
import shutil
from pathlib import Path

import pytest

from dtx.cli import main
from dtx.errors import UserError
from dtx.sweep.compare import compare
from dtx.sweep.grid import read_sweep
from dtx.sweep.metrics import mean_over_seeds
from tests.toys import CHAIN, write_chain

GRID = ["agent.value=1,2", "dt.value=10,20,30", "seed=0,1"]
SEED = 'value: "${seed}"'


ARGS = ["-m", "--config-dir", "mine", *CHAIN, "tracking.enabled=false", *GRID]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder with a sweep over seeds: the analyses add the seed. Made once."""
    folder = tmp_path_factory.mktemp("sweep")
    write_chain(folder / "mine")
    for name in ("one", "two"):
        path = folder / "mine" / "analysis" / f"{name}.yaml"
        text = path.read_text().replace("value: 0", SEED).replace("value: 1", SEED)
        path.write_text(text)
    with contextlib.chdir(folder):
        assert main(["run", *ARGS]) == 0
    return folder


@pytest.fixture
def done(finished, tmp_path, monkeypatch) -> list[str]:
    """A copy of that sweep as the working directory, and its arguments."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return ARGS


def read(args):
    return read_sweep(args[3:], Path("mine"))


def test_rows_hold_swept_values_and_numbers_of_the_targets(done, tmp_path):
    sweep = read(done)
    found = compare(sweep, sweep.store(), tmp_path / "out")
    assert len(found.rows) == 12
    row = next(r for r in found.rows if (r["agent.value"], r["dt.value"], r["seed"]) == (2, 30, 1))
    assert row["start/total"] == 2
    assert "chain/total" in found.metrics


def test_analyses_that_are_not_established_are_named_with_the_reason(tmp_path, monkeypatch, capsys):
    write_chain(tmp_path / "mine")
    yaml = "# @package analysis.spread\n_target_: tests.toys.Spread\nof: ${dt}\nerror: 0.0\n"
    (tmp_path / "mine" / "analysis" / "spread.yaml").write_text(yaml)
    monkeypatch.chdir(tmp_path)
    chosen = [*CHAIN[:3], "analysis=[spread]", "tracking.enabled=false"]
    args = ["-m", "--config-dir", "mine", *chosen, "analysis.spread.error=0,3"]
    assert main(["run", *args]) == 0
    sweep = read(args)
    comparison = compare(sweep, sweep.store(), tmp_path / "out")
    assert [row.get("not established") for row in comparison.rows] == [None, "toys"]
    assert [row["toys/spread"] for row in comparison.rows] == [0.5, 0.5]
    # What the analysis declares is shown, though only the other metric differs.
    assert comparison.metrics == ["toys/spread"] and "toys/error" in comparison.every
    reason = "check failed: a sum and its parts: 3 is above 1e-06"
    assert comparison.warnings == [f"toys is not established in 1 of 2 jobs: {reason}"]
    capsys.readouterr()
    assert main(["compare", *args]) == 0
    assert comparison.warnings[0] in capsys.readouterr().err


def test_one_figure_for_each_pair_with_bands_over_seeds(done, tmp_path):
    sweep = read(done)
    found = compare(sweep, sweep.store(), tmp_path / "out", ["*/total"])
    names = {p.stem for p in found.paths}
    assert names == {
        f"{m}_total_by_{q}" for m in ("chain", "start") for q in ("agent.value", "dt.value")
    }
    assert all(p.stat().st_size > 5000 for p in found.paths)


def test_the_interval_is_over_the_seeds(done):
    import pandas as pd

    from dtx.sweep.compare import _lines

    frame = pd.DataFrame({"x": [1, 1, 2, 2], "seed": [0, 1, 0, 1], "m/a": [0.0, 1.0, 5.0, 5.0]})
    (line,) = _lines(frame, "m/a", "x", [], {1: 1.0, 2: 2.0})
    assert line.means == [0.5, 5.0]
    # Two seeds: t with one degree of freedom, 12.7 standard errors of .5 either way.
    assert (line.lows[0], line.highs[0]) == pytest.approx((-5.853, 6.853), abs=1e-3)
    assert line.lows[1] == line.highs[1] == 5.0
    assert len(line.dots) == 4


def test_jobs_of_one_seed_count_once_and_one_job_has_no_interval():
    import pandas as pd

    from dtx.sweep.compare import _over

    frame = pd.DataFrame({"x": [1] * 4, "y": [0, 1, 0, 1], "seed": [0, 0, 1, 1], "m/a": range(4)})
    mean = mean_over_seeds(frame, "m/a", "x")
    assert (mean.value, mean.n, mean.kind) == (1.5, 2, "t over 2 seeds")
    swept = ["x", "y", "seed"]
    assert _over(frame, "m/a", "x", swept, []) == "mean and 95% interval (t) over seed (n = 2)"
    alone = mean_over_seeds(frame.iloc[:1], "m/a", "x")
    assert alone.n == 1 and math.isnan(alone.low)
    assert _over(frame.iloc[:1], "m/a", "x", swept, []) == "one job each: no interval over seed"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--metric", "no/such"], "no metric is named 'no/such': did you mean"),
        (["--by", "dt.x"], "was not swept"),
    ],
)
def test_mistakes_are_explained(done, capsys, more, words):
    assert main(["compare", *done, *more]) == 2
    assert words in capsys.readouterr().err


def test_metrics_may_be_several_and_need_no_group(done, capsys):
    assert main(["compare", *done, "--metric", "total", "--by", "dt.value"]) == 0
    told = capsys.readouterr().err
    assert "chain_total_by_dt.value" in told and "start_total_by_dt.value" in told
    assert main(["compare", *done, "--metric", "start/total", "--metric", "chain/*"]) == 0
    told = capsys.readouterr().err
    assert told.count("figure: ") == 4


def test_an_unknown_metric_is_answered_in_one_line(done, capsys):
    assert main(["compare", *done, "--metric", "chain/totl"]) == 2
    told = capsys.readouterr().err
    assert told == (
        "dtx: error: no metric is named 'chain/totl': did you mean chain/total or start/total? "
        "`dtx compare --list` prints all 2\n"
    )


def test_all_metrics_are_listed(done, capsys, tmp_path):
    assert main(["compare", *done, "--list"]) == 0
    header, chain, start, star = capsys.readouterr().out.splitlines()
    assert header.split() == ["metric", "jobs", "smallest", "largest"]
    assert chain.split()[:2] == ["chain/total*", "12"]
    assert start.split() == ["start/total", "12", "1", "2"]
    assert star.startswith("* drawn")
    assert not (tmp_path / "multirun/compare").exists()


def test_the_last_sweep_is_found_again(done, capsys, tmp_path):
    assert main(["compare", "--metric", "chain/total"]) == 0
    told = capsys.readouterr().err
    assert "figure: multirun/compare/figures/chain_total_by_dt.value.png" in told
    assert (tmp_path / "multirun/compare/figures/chain_total_by_dt.value.png").exists()


def test_without_a_sweep_it_says_what_to_give(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["compare"]) == 2
    assert "give its overrides" in capsys.readouterr().err
    assert main(["compare", "dt.seed=1"]) == 2
    assert "nothing is swept" in capsys.readouterr().err


def test_by_itself_a_seed_is_the_question(done, tmp_path):
    sweep = read([*done[:-3], "seed=0,1"])
    with pytest.raises(UserError, match="was not swept"):
        compare(sweep, sweep.store(), tmp_path / "out", by=["dt.value"])
    assert compare(sweep, sweep.store(), tmp_path / "out").metrics == []  # nothing of it was run
