"""Lanes: one thread and one subject each, the newest job first, and what ends work."""

import threading

import pytest

from dtx.app.lanes import Full, Lane


class Subject:
    """What a lane works on; notes who made it."""

    def __init__(self):
        self.thread = threading.get_ident()


@pytest.fixture
def lane():
    lane = Lane("lane", Subject)
    yield lane
    lane.close()


@pytest.fixture
def held(lane):
    """A lane whose thread is busy until the event is set."""
    begun, free = threading.Event(), threading.Event()

    def wait(subject, job):
        begun.set()
        assert free.wait(60)

    job = lane.give(wait)
    assert begun.wait(60)
    yield lane, free
    free.set()
    job.future.result(60)


def test_all_jobs_of_a_lane_have_its_thread_and_its_subject(lane):
    jobs = [
        lane.give(lambda s, j: (s, s.thread, threading.get_ident())).future.result(60)
        for _ in range(5)
    ]
    (subject, made, worked) = jobs[0]
    assert all(job == (subject, made, made) for job in jobs)
    assert worked != threading.get_ident()


def test_two_lanes_share_nothing(lane):
    other = Lane("other", Subject)
    subjects = [each.give(lambda s, j: (s, s.thread)).future.result(60) for each in (lane, other)]
    other.close()
    assert subjects[0][0] is not subjects[1][0] and subjects[0][1] != subjects[1][1]


def test_the_newest_that_waits_is_first(held):
    lane, free = held
    order = []
    jobs = [lane.give(lambda s, j, i=i: order.append(i)) for i in range(5)]
    free.set()
    for job in jobs:
        job.future.result(60)
    assert order == [4, 3, 2, 1, 0]


def test_only_so_many_may_wait_and_who_leaves_makes_room(held):
    lane, _ = held
    jobs = [lane.give(lambda s, j: None) for _ in range(8)]
    with pytest.raises(Full):
        lane.give(lambda s, j: None)
    jobs[3].leave()
    assert jobs[3].future.cancelled()
    lane.give(lambda s, j: None)
    with pytest.raises(Full):
        lane.give(lambda s, j: None)


def test_what_was_left_before_its_turn_is_never_done(held):
    lane, free = held
    done = []
    left, kept = (lane.give(lambda s, j, i=i: done.append(i)) for i in range(2))
    left.leave()
    free.set()
    kept.future.result(60)
    lane.give(lambda s, j: None).future.result(60)
    assert done == [1]


def test_long_work_that_is_left_gives_up_and_frees_the_lane(lane):
    begun = threading.Event()

    def batches(subject, job):
        begun.set()
        while not job.stop():
            threading.Event().wait(0.001)
        return "gave up"

    job = lane.give(batches)
    assert begun.wait(60)
    assert not job.stop()
    job.leave()
    assert job.future.result(60) == "gave up"
    assert lane.give(lambda s, j: "next").future.result(60) == "next"


def test_work_stops_when_its_time_is_over(lane):
    def batches(subject, job):
        while not job.stop():
            threading.Event().wait(0.001)
        return "over"

    assert lane.give(batches, seconds=0.01).future.result(60) == "over"


def test_what_is_raised_reaches_who_waits_and_the_lane_goes_on(lane):
    def fail(subject, job):
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        lane.give(fail).future.result(60)
    assert lane.give(lambda s, j: 1).future.result(60) == 1


def test_a_subject_that_cannot_be_made_is_tried_again_with_the_next_job():
    problems = [OSError("no store"), None]

    def make():
        if (problem := problems.pop(0)) is not None:
            raise problem
        return "subject"

    lane = Lane("lane", make)
    with pytest.raises(OSError, match="no store"):
        lane.give(lambda s, j: s).future.result(60)
    assert lane.give(lambda s, j: s).future.result(60) == "subject"
    lane.close()


def test_a_closed_lane_ends_its_thread_and_takes_nothing(held):
    lane, free = held
    waits = lane.give(lambda s, j: None)
    lane.close()
    assert waits.future.cancelled()
    with pytest.raises(Full):
        lane.give(lambda s, j: None)
    free.set()
    lane._thread.join(60)
    assert not lane._thread.is_alive()
