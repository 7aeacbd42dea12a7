"""Lanes of the explorer's server: each is one thread with models of its own.

The hooks of a model are attributes of its modules, so two threads on one model would read each other's.
A lane therefore makes what it works on (its *subject*) in its own thread, and no other thread ever sees it.
One lane takes the work of a key press, another the long work: a patching sweep keeps no key waiting.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, Generic, TypeVar

S = TypeVar("S")

WAITING = 8
"""Jobs that may wait in one lane."""

SECONDS = 60.0
"""From the moment when a job is given until it must be done."""


class Full(Exception):
    """As many jobs wait as may."""


class Job:
    """One piece of work, waiting, running or over.

    Attributes:
        future: Gets the result, or what was raised.
    """

    def __init__(self, work: Callable[[Any, Job], Any], seconds: float = SECONDS):
        self.work = work
        self.future: Future[Any] = Future()
        self._end = time.monotonic() + seconds
        self._left = threading.Event()

    def leave(self) -> None:
        """Nobody waits for the result any more."""
        self._left.set()
        self.future.cancel()  # if it has not begun

    def stop(self) -> bool:
        """Whether to give up: nobody waits any more, or the time is over. Long work asks between batches."""
        return self._left.is_set() or time.monotonic() > self._end

    def do(self, subject: Callable[[], Any]) -> None:
        """Work, in the lane's thread."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.work(subject(), self)
        except BaseException as error:  # whoever waits for the result raises it
            outcome, value = self.future.set_exception, error
        else:
            outcome, value = self.future.set_result, result
        with suppress(InvalidStateError):
            outcome(value)


class Lane(Generic[S]):
    """A thread that does one job at a time, the newest of those that wait first.

    Args:
        name: Of the thread.
        make: Makes the subject, in the lane's thread, when the first job comes; again, if that failed.
        waiting: Jobs that may wait.
    """

    def __init__(self, name: str, make: Callable[[], S], waiting: int = WAITING):
        self._make, self._most = make, waiting
        self._subject: S | None = None
        self._jobs: list[Job] = []
        self._changed = threading.Condition()
        self._running: Job | None = None
        self._open = True
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def give(self, work: Callable[[S, Job], Any], seconds: float = SECONDS) -> Job:
        """Let a piece of work wait for its turn.

        Args:
            work: Called with the subject and the job.
            seconds: After which :meth:`Job.stop` is true.

        Raises:
            Full: Too many wait.
        """
        with self._changed:
            self._jobs = [job for job in self._jobs if not job.future.cancelled()]
            if len(self._jobs) >= self._most or not self._open:
                raise Full
            self._jobs.append(job := Job(work, seconds))
            self._changed.notify()
        return job

    def close(self) -> None:
        """End the thread once its job gives up; what waits is cancelled."""
        with self._changed:
            self._open = False
            for job in [*self._jobs, *([self._running] if self._running else [])]:
                job.leave()
            self._jobs = []
            self._changed.notify()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            job.do(self._of_this_thread)
            self._running = job = None  # else its result is kept until the next one

    def _next(self) -> Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or not self._open)
            self._running = self._jobs.pop() if self._jobs else None
            return self._running

    def _of_this_thread(self) -> S:
        if self._subject is None:
            self._subject = self._make()
        return self._subject
