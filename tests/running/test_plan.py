"""Why a stage would run, and how long it would take."""

import dataclasses
import json

import pytest

from dtx.config.compose import OnDrift, build_group
from dtx.errors import Interrupted, UserError
from dtx.running import drift, plan
from dtx.running.runner import run
from tests.toys import Number, Placed, Sum, runs

ONE, TWO = Number(value=1), Number(value=2)
TOTAL = Sum(left=ONE, right=TWO)


def steps(store, *targets, on_drift=OnDrift.WARN) -> dict[str, tuple[str, str]]:
    return {s.stage.label: (s.action, s.why) for s in plan.plan(targets, store, on_drift)}


def edit_source(store, stage) -> None:
    """Make the record say that another code made the artefact."""
    files = {**drift.sources(stage)["files"], "tests/toys.py": "other"}
    store.amend(stage, {"source": {**drift.sources(stage), "files": files}})


def test_everything_is_new_in_a_fresh_store(store):
    assert set(steps(store, TOTAL).values()) == {("run", "new")}
    assert plan.in_one_line(plan.plan([TOTAL], store)) == "3 toys to run (new)"
    assert "no estimate" in plan.estimate(plan.plan([TOTAL], store))


def test_changed_fields_and_inputs_are_named_with_both_values(store, experiment_of):
    run(experiment_of(TOTAL))
    five = dataclasses.replace(ONE, value=5)
    changed = Sum(left=five, right=TWO, seconds=0.5)
    found = steps(store, changed)
    assert found[five.label][0] == "run" and "value 1 -> 5" in found[five.label][1]
    assert found[TWO.label] == ("reuse", "")
    assert found[changed.label] == (
        "run",
        "config changed: seconds 0 -> 0.5; input changed: left",
    )


def test_a_runtime_field_is_no_reason(store, experiment_of):
    run(experiment_of(ONE))
    assert steps(store, dataclasses.replace(ONE, workers=8)) == {ONE.label: ("reuse", "")}


def test_a_raised_version_is_told(store, experiment_of, monkeypatch):
    run(experiment_of(ONE))
    monkeypatch.setattr(Number, "version", 2)
    newer = Number(value=1)
    assert steps(store, newer) == {newer.label: ("run", "version 1 -> 2")}


def in_(option: str, *overrides: str) -> Placed:
    return Placed(env=build_group(f"env/{option}", [*overrides]))


def test_another_environment_is_named_in_record_and_plan(store, experiment_of):
    memory, key = in_("memory"), in_("door_key", "env.size=8", "env.max_steps=50")
    run(experiment_of(memory))
    assert store.done(memory)["config"]["env"] == {
        "_target_": "dtx.env.memory.Memory",
        "size": 7,
        "max_steps": 50,
        "backend": "auto",
    }
    assert steps(store, key)[key.label] == ("run", "config changed: env Memory -> DoorKey")
    larger = in_("memory", "env.size=9")
    assert steps(store, larger)[larger.label] == ("run", "config changed: env.size 7 -> 9")


def test_a_record_that_names_no_class_is_compared_by_what_it_has(store, experiment_of):
    """As those of earlier versions."""
    memory = in_("memory")
    run(experiment_of(memory))
    config = memory.config()
    del config["env"]["_target_"]
    store.amend(memory, {"config": config})
    assert steps(store, memory) == {memory.label: ("reuse", "")}
    larger = in_("memory", "env.size=9")
    assert steps(store, larger)[larger.label] == ("run", "config changed: env.size 7 -> 9")
    for other in (in_("door_key", "env.size=8"), in_("minigrid"), in_("dynamic_obstacles")):
        name = type(other.env).__name__
        assert steps(store, other)[other.label] == (
            "run",
            f"config changed: env (another) -> {name}",
        )


def test_forced_and_interrupted_are_told(store, experiment_of):
    run(experiment_of(ONE))
    store.invalidate(ONE.label)
    assert "forced" in steps(store, ONE)[ONE.label][1]
    stopped = Sum(left=ONE, right=TWO, fail="interrupt")
    with pytest.raises(Interrupted):
        run(experiment_of(stopped))
    assert steps(store, stopped)[stopped.label][1] == "goes on where it was interrupted"


def test_what_a_committed_stage_stands_for_is_not_needed(store, experiment_of):
    run(experiment_of(TOTAL))
    store.invalidate(ONE.label)
    found = steps(store, TOTAL)
    assert found[ONE.label][0] == "not needed" and found[TOTAL.label][0] == "reuse"


def test_the_estimate_is_of_the_most_similar_run(store, experiment_of):
    run(experiment_of(ONE, Number(value=7, workers=2)))
    for stage, seconds in ((ONE, 600.0), (Number(value=7), 60.0)):
        store.amend(stage, {"seconds": seconds, "config": {**stage.config()}})
    near_one = dataclasses.replace(ONE, value=7, sign=ONE.sign.MINUS)  # differs from 7 in one field
    (step,) = plan.plan([near_one], store)
    assert step.seconds == 60.0
    assert plan.estimate([step]) == "about 60 s of work, by earlier runs"


def test_drift_is_told_acted_on_or_refused(store, experiment_of, tmp_path):
    run(experiment_of(TOTAL))
    edit_source(store, ONE)
    assert steps(store, TOTAL)[ONE.label] == ("reuse", "code changed: tests/toys.py")
    again = steps(store, TOTAL, on_drift=OnDrift.RERUN)
    assert again[ONE.label] == ("run", "code changed: tests/toys.py")
    assert again[TOTAL.label] == ("run", "an input is made again")
    assert again[TWO.label] == ("reuse", "")

    what = experiment_of(TOTAL)
    assert {o.status for o in run(what)} == {"reused"}  # warn
    with pytest.raises(UserError, match=r"toys-.* code changed since: tests/toys.py"):
        run(dataclasses.replace(what, on_drift=OnDrift.FAIL))
    assert runs(tmp_path, "sum") == 1
    outcomes = run(dataclasses.replace(what, on_drift=OnDrift.RERUN))
    assert {o.stage.label for o in outcomes if o.status == "ran"} == {ONE.label, TOTAL.label}
    assert {o.status for o in run(dataclasses.replace(what, on_drift=OnDrift.RERUN))} == {"reused"}


def test_a_corrupt_record_does_not_stop_a_plan(store, experiment_of):
    run(experiment_of(ONE))
    (store.folder(ONE) / "done.json").write_text("{")
    three = Number(value=3)
    assert steps(store, three) == {three.label: ("run", "new")}


def test_records_without_source_have_not_drifted(store, experiment_of):
    """Artefacts of dtx 0.1 name one file with its hash."""
    run(experiment_of(ONE))
    path = store.folder(ONE) / "done.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "source": {"file": "toys.py", "sha256": "0"}}))
    assert steps(store, ONE) == {ONE.label: ("reuse", "")}


@pytest.mark.parametrize(
    ("seconds", "words"), [(45, "45 s"), (89, "89 s"), (600, "10 min"), (12_000, "3 h 20 min")]
)
def test_durations_are_readable(seconds, words):
    assert plan.duration(seconds) == words
