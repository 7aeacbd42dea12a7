"""Which metrics of a sweep are shown."""

from pathlib import Path

import pytest

from dtx.cli import main
from dtx.errors import UserError
from dtx.sweep.grid import read_sweep
from dtx.sweep.metrics import headline_names, matching
from tests.toys import CHAIN, write_chain

SPREAD = "# @package analysis.{name}\n_target_: tests.toys.Spread\nof: ${{{of}}}\nerror: {error}\n"
NAMES = ["calibration/spearman", "calibration/success_high", "calibration/success_low", "dt/loss"]


def test_names_and_patterns_with_and_without_the_group():
    assert matching(NAMES, ["dt/loss", "calibration/success_*"]) == [
        "dt/loss",
        "calibration/success_high",
        "calibration/success_low",
    ]
    assert matching(NAMES, ["spearman", "success_*"]) == NAMES[:3]


@pytest.mark.parametrize(
    ("wrong", "near"), [("sperman", "calibration/spearman"), ("calibration/sucess_low", NAMES[2])]
)
def test_the_nearest_names_are_suggested_in_one_line(wrong, near):
    with pytest.raises(UserError) as error:
        matching([*NAMES, *(f"lens/at_{i}" for i in range(80))], [wrong])
    told = str(error.value)
    assert f"no metric is named '{wrong}': did you mean {near} or " in told
    assert "`dtx compare --list` prints all 84" in told and told.count("/") <= 4


def test_without_any_metric_it_says_so():
    with pytest.raises(UserError, match="no finished job has any metric"):
        matching([], ["spearman"])


@pytest.fixture
def user(tmp_path, monkeypatch) -> Path:
    write_chain(tmp_path / "mine")
    for name, of, error in (("data", "dataset", 0.0), ("model", "dt", 0.0)):
        text = SPREAD.format(name=name, of=of, error=error)
        (tmp_path / "mine" / "analysis" / f"{name}.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def headline_of(*overrides: str) -> list[str]:
    args = [*CHAIN[:3], "tracking.enabled=false", *overrides]
    assert main(["run", "-m", "--config-dir", "mine", *args]) == 0
    sweep = read_sweep(args, Path("mine"))
    return headline_names(sweep, sweep.store())


def test_declared_metrics_of_the_targets_are_the_headline(user):
    # Not toys/error, which the analysis has but does not declare.
    assert headline_of("analysis=[model]", "dt.value=1,2") == ["toys/spread"]


def test_of_a_target_that_declares_none_the_first_metrics_are(user):
    assert headline_of("analysis=[one]", "dt.value=1,2") == ["chain/total"]


def test_a_target_that_does_not_depend_on_what_is_swept_is_left_out(user):
    assert headline_of("analysis=[data,one]", "dt.value=1,2") == ["chain/total"]
    assert headline_of("analysis=[data,one]", "dataset.value=1,2") == ["toys/spread", "chain/total"]
    assert headline_of("analysis=[data]", "dt.value=3,4") == ["toys/spread"]
