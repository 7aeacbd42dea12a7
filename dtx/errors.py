"""The ways in which a command ends early on purpose."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend. The message says what is wrong, where, and what to do.

    The command line prints the message in one line, without a traceback, and exits with status 2.

    Attributes:
        defect: Whether a fault of the program is among what is reported; the exit status is then 1.
    """

    defect: bool = False


class UnknownName(UserError, KeyError):
    """Nothing has the name that was looked up; the message says which name is the nearest."""

    __str__ = Exception.__str__  # a KeyError would show its message in quotes


class Interrupted(BaseException):
    """Ctrl-C, SIGTERM or a closed terminal. Not an ``Exception``: nothing but the runner may swallow it."""


class Pruned(Interrupted):
    """A trial of a search was given up. Its stage ends as after any interruption, and keeps what it has."""
