"""Ctrl-C and SIGTERM: raised as :class:`Interrupted`, or delayed until a short block ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dtx.errors import Interrupted

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM become :class:`Interrupted`, which nothing in between swallows."""

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted(signal.Signals(number).name)

    with _handled_by(interrupt), _delivered_again():
        yield


@contextmanager
def _delivered_again() -> Iterator[None]:
    """Python drops what is raised in a destructor or a weak reference: send such a signal again."""
    before = sys.unraisablehook

    def again(dropped: sys.UnraisableHookArgs) -> None:
        if not isinstance(dropped.exc_value, Interrupted):
            before(dropped)
            return
        number = signal.Signals[str(dropped.exc_value)]
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextmanager
def defer_signals() -> Iterator[None]:
    """Delay signals until the block ends; keep the block short.

    For a commit with its tracking, and for calls to MLflow: a call that a signal interrupts leaves a
    transaction open, and the calls that would end the run find the database locked.
    """
    received: list[int] = []
    try:
        with _handled_by(lambda number, frame: received.append(number)):
            yield
    finally:
        if received:
            signal.raise_signal(received[0])


@contextmanager
def _handled_by(handler: Callable[[int, object], object]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # signals go to the main thread
        return
    before = {number: signal.signal(number, handler) for number in _NUMBERS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
