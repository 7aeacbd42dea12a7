"""This machine's speed beside the reference machine's, by which estimates of a fresh store are scaled."""

import pytest

from dtx.running import plan, speed
from tests.running.test_room import Large


def test_it_is_measured_once_and_quickly():
    speed.relative_speed.cache_clear()
    first = speed.relative_speed()
    assert 0.01 < first < 100  # of a machine that runs tests
    assert speed.relative_speed() == first and speed.relative_speed.cache_info().misses == 1


def test_the_fastest_try_counts(monkeypatch):
    times = iter([0.0, 0.0, 2.0, 2.0, 3.0, 3.0, 13.0, 13.0])
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(times))
    monkeypatch.setattr(speed, "_SECONDS", 10.0)
    assert speed._rate(lambda: 100) == 100.0


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_without_a_record_the_reference_timing_is_scaled(store, monkeypatch, factor):
    monkeypatch.setattr(plan, "relative_speed", lambda: factor)
    (step,) = plan.plan([Large(value=1, seconds=120.0)], store)
    assert step.seconds == 120 / factor and not step.ran_before
    assert f"this machine being {factor:.1f} times as fast" in plan.estimate([step])


def test_records_of_this_machine_are_not_scaled(store, experiment_of, monkeypatch):
    from dtx.running.runner import run

    monkeypatch.setattr(plan, "relative_speed", lambda: 10.0)
    done = Large(value=1, seconds=10.0)
    run(experiment_of(done))
    store.amend(done, {"seconds": 4.0})
    (step,) = plan.plan([Large(value=2, seconds=20.0)], store)
    assert step.seconds == pytest.approx(8.0)
    assert "estimated from earlier runs here" in plan.estimate([step])
