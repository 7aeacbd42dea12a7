"""Ctrl-C, SIGTERM, a closed terminal: raised as :class:`Interrupted`, or delayed until a short block ends."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dtx.errors import Interrupted

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a command early: Ctrl-C, a polite kill, and a terminal that was closed."""

_SAME = 1.0  # seconds in which another signal is the same wish, sent to process and group


def set_handlers(handler: Callable[[int, Any], object]) -> dict[int, Any]:
    """Handle the signals that end a command; gives the handlers before. SIGHUP stays ignored under nohup."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    handled = [n for n in NUMBERS if not (n == signal.SIGHUP and ignored)]
    return {number: signal.signal(number, handler) for number in handled}


@contextmanager
def signals() -> Iterator[None]:
    """The signals of :data:`NUMBERS` become :class:`Interrupted`, which nothing in between swallows."""

    raised = [-math.inf]  # when

    def interrupt(number: int, frame: object) -> None:
        if time.monotonic() - raised[0] < _SAME:
            return
        raised[0] = time.monotonic()
        raise Interrupted(signal.Signals(number).name)

    with _handled_by(interrupt), _delivered_again(raised):
        try:
            yield
        except Exception as error:
            raise_signal_before(error)
            raise


def raise_signal_before(error: BaseException) -> None:
    """Raise the :class:`Interrupted` after which an error arose, in a library that cleaned up."""
    before = error.__context__
    while before is not None:
        if isinstance(before, Interrupted):
            raise before
        before = before.__context__


@contextmanager
def _delivered_again(raised: list[float]) -> Iterator[None]:
    """Python drops what is raised in a destructor or a weak reference: send such a signal again."""
    before = sys.unraisablehook

    def again(dropped: sys.UnraisableHookArgs) -> None:
        if not isinstance(dropped.exc_value, Interrupted):
            before(dropped)
            return
        number = signal.Signals[str(dropped.exc_value)]
        raised[0] = -math.inf
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
    before = set_handlers(handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
