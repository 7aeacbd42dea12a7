"""Headline metrics over what is swept."""

from dtx.sweep.curves import over_swept


def rows(**columns: list) -> list[dict]:
    names = [name.replace("__", ".") for name in columns]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def test_a_field_of_numbers_is_a_curve_of_means_over_seeds():
    jobs = rows(dt__steps=[60, 60, 100, 100], seed=[0, 1, 0, 1], m=[1.0, 3.0, 5.0, 7.0])
    assert over_swept(jobs, ["dt.steps", "seed"], ["m"]) == [
        ("m by steps", 2.0, 60),
        ("m by steps", 6.0, 100),
    ]


def test_steps_are_whole_and_the_name_says_how():
    jobs = rows(agent__lr=["1e-4", "5e-4", "0.001"], m=[1.0, 2.0, None])
    assert over_swept(jobs, ["agent.lr"], ["m"]) == [
        ("m by lr x 10000", 1.0, 1),
        ("m by lr x 10000", 2.0, 5),
    ]
    # What cannot be a step is a value like a name.
    jobs = rows(agent__lr=["1e-12", "1e-11"], m=[1.0, 2.0])
    assert over_swept(jobs, ["agent.lr"], ["m"]) == [
        ("m of lr 1e-12", 1.0, 0),
        ("m of lr 1e-11", 2.0, 0),
    ]


def test_further_fields_give_a_curve_each_and_names_a_metric_each():
    jobs = rows(dt=["small", "memory_dt"] * 2, dt__steps=[60, 60, 100, 100], m=[1.0, 2.0, 3.0, 4.0])
    assert over_swept(jobs, ["dt", "dt.steps"], ["m"]) == [
        ("m by steps/dt small", 1.0, 60),
        ("m by steps/dt memory_dt", 2.0, 60),
        ("m by steps/dt small", 3.0, 100),
        ("m by steps/dt memory_dt", 4.0, 100),
    ]
    assert over_swept(jobs[:2], ["dt"], ["m"]) == [
        ("m of dt small", 1.0, 0),
        ("m of dt memory_dt", 2.0, 0),
    ]
    # Only seeds: the mean over them. A job without results does not count.
    jobs = rows(seed=[0, 1, "x"], m=[1.0, 2.0, None])
    assert over_swept(jobs, ["seed"], ["m"]) == [("m", 1.5, 0)]
