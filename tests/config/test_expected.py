import json

import pytest

from dtx.config.compose import CONF
from dtx.config.expected import Expected, Number, judge, measure, path_of, read, seeds_of, stages_of
from dtx.config.options import options
from dtx.errors import UserError
from dtx.running.runner import run
from tests import toys

TOTAL = toys.Sum(left=toys.Number(value=1), right=toys.Number(value=2))
PRESETS = [o.name for o in options()["experiment"]]


def expected(*numbers: Number) -> Expected:
    return Expected(CONF / "expected.json", (0,), numbers)


def test_numbers_of_targets_and_of_inputs(store, experiment_of):
    run(experiment_of(TOTAL))
    wanted = expected(
        Number("toy/value", "sum.right", 2, 2),
    )
    assert stages_of(wanted, {"sum": TOTAL}) == {"sum.right": TOTAL.right}
    assert measure(wanted, {"sum": TOTAL}) == {"toy/value": 2}


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (Number("toy/value", "sum.rihgt", 0, 1), "did you mean 'right'"),
        (Number("toy/value", "smu", 0, 1), "did you mean 'sum'"),
        (Number("toy/value", "", 0, 1), "no stage ''"),
        (Number("toy/vlaue", "sum.left", 0, 1), "did you mean 'toy/value'"),
        (Number("toy/value", "sum", 0, 1), "sum has no such number"),
    ],
)
def test_what_there_is_not_is_told(store, experiment_of, number, words):
    run(experiment_of(TOTAL))
    with pytest.raises(UserError, match=r"expected\.json: ") as error:
        measure(expected(number), {"sum": TOTAL})
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("values", "mean", "ok"),
    [
        ((0.2, 0.4), 0.3, True),
        ((0.1, 0.5), 0.3, True),
        ((0.2, 0.2), 0.2, True),
        ((0.2, 0.19), 0.195, False),
        ((0.5, 0.4), 0.45, False),
        ((0.3, None), None, False),
    ],
)
def test_the_mean_over_seeds_must_lie_within_both_ends(values, mean, ok):
    number = Number("toy/value", "sum", 0.2, 0.4)
    (verdict,) = judge(expected(number), [{"toy/value": v} for v in values])
    assert verdict.mean == (None if mean is None else pytest.approx(mean)) and verdict.ok is ok


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{half", "is not JSON"),
        ("[]", "the form is"),
        ('{"agent: success": [0, 1]}', "the form is"),
        ('{"seeds": [], "numbers": {"a": {}}}', "seeds: a list of whole numbers"),
        ('{"seeds": [0.5], "numbers": {"a": {}}}', "seeds: a list of whole numbers"),
        ('{"seeds": [0], "numbers": {}}', "numbers: names with tolerances"),
        ('{"seeds": [0], "numbers": {"a": [0, 1]}}', "numbers: a: "),
        ('{"seeds": [0], "numbers": {"a": {"of": "x", "low": 1, "high": 0}}}', "low <= high"),
        ('{"seeds": [0], "numbers": {"a": {"of": "x", "low": "0", "high": 1}}}', "low <= high"),
        ('{"seeds": [0], "numbers": {"a": {"of": "x", "low": 0}}}', "numbers: a: "),
    ],
)
def test_a_file_of_another_form_is_told(tmp_path, text, words):
    path = tmp_path / "expected.json"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read(path)
    assert words in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize("preset", [p for p in PRESETS if path_of(p).exists()])
def test_every_file_of_this_clone_fits_its_preset(preset):
    from dtx.config.compose import compose, experiment

    found = read(path_of(preset))
    what = experiment(compose([f"experiment={preset}"]))
    assert set(stages_of(found, what.targets)) == {n.of for n in found.numbers}
    assert seeds_of(preset) == found.seeds


def test_nothing_is_expected_of_a_preset_without_a_file():
    assert seeds_of("nothing") == ()
    with pytest.raises(UserError, match="cannot read"):
        read(path_of("nothing"))


def test_the_file_is_json_as_documented(tmp_path):
    path = tmp_path / "expected.json"
    number = {"of": "calibration.dataset.agent", "low": 0.95, "high": 1}
    path.write_text(json.dumps({"seeds": [0, 1], "numbers": {"agent/success": number}}))
    found = read(path)
    assert found.seeds == (0, 1)
    assert found.numbers == (Number("agent/success", "calibration.dataset.agent", 0.95, 1),)
