"""Names of jobs, parameters and stages."""

from dtx.config.compose import compose, experiment
from dtx.running.names import Names, short_names, title


def test_titles_are_short_and_tell_fields_apart():
    assert title({"dt": "small", "dt.steps": "60", "seed": "0"}) == "dt=small steps=60 seed=0"
    assert title({"dt.seed": "1", "agent.seed": "2"}) == "dt.seed=1 agent.seed=2"
    assert title({}, "memory_dt") == "memory_dt"
    assert title({"name": "'a b'"}) == "name=a b"
    assert len(title({f"field{i}": "value" for i in range(100)})) == 200
    names = short_names(["dt.seed", "seed", "analysis.lens.seed", "dt.steps"])
    assert names == {
        "dt.seed": "dt.seed",
        "seed": "seed",
        "analysis.lens.seed": "lens.seed",
        "dt.steps": "steps",
    }


def names_of(*overrides: str) -> Names:
    return Names(experiment(compose(overrides), overrides))


def test_an_experiment_is_named_by_what_the_user_set():
    assert names_of().title == "memory_dt"
    named = names_of("dt=small", "dt.steps=60", "tracking.enabled=false", "name=mine")
    assert named.title == "mine dt=small steps=60"


def test_parameters_are_those_that_the_targets_need():
    groups = {name.split(".")[0] for name in names_of("target=dataset").parameters}
    assert groups == {"env", "agent", "dataset", "name", "seed", "target"}
    assert not {n for n in names_of().parameters if n.startswith(("pairs.", "store.", "tracking."))}
    assert any(n.startswith("pairs.") for n in names_of("target=pairs").parameters)


def test_a_record_has_role_and_parameters():
    names = names_of("analysis=[calibration]")
    calibration = names.experiment.targets["calibration"]
    record = names.record(calibration.inputs()["behaviour_clone"])
    assert record["role"] == "behaviour clone"
    assert record["parameters"]["analysis.calibration.behaviour_clone.steps"] == "100"
