"""Names that readers see for the stages of an experiment."""

from dtx.config.compose import compose, experiment
from dtx.running.roles import roles
from tests.toys import Number, Sum


def _roles(*overrides: str) -> dict[str, str]:
    return roles(experiment(compose(overrides), overrides).targets)


def test_the_models_of_the_study_are_told_apart():
    names = _roles()
    assert sorted(names.values()) == sorted(
        [
            *("agent", "dataset", "dt", "demonstrations", "calibration"),
            *("behaviour clone", "shuffled", "untrained"),
        ]
    )


def test_a_control_that_is_the_model_itself_has_the_models_role():
    names = _roles("dt.steps=0", "dt.optimiser.warm_up=0")
    assert "untrained" not in names.values() and "dt" in names.values()


def test_two_stages_of_one_role_are_told_apart_by_their_keys():
    one, two, three = (Number(value=i) for i in range(3))
    names = roles({"a": Sum(left=one, right=two), "b": Sum(left=three, right=two)})
    assert names[one.label] == f"left {one.key[:6]}"
    assert names[three.label] == f"left {three.key[:6]}"
    assert names[two.label] == "right"


def test_every_stage_has_a_role_of_its_own():
    for overrides in ((), ("analysis=[scorecard]",), ("target=pairs",), ("target=dataset",)):
        names = _roles(*overrides)
        assert len(set(names.values())) == len(names)
