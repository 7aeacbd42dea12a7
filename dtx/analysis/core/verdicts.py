"""Exact checks, controls, and what becomes of a claim."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dtx.statistics import Estimate

    Uncertain = Estimate | tuple[float, float] | float
    """An estimate, the ends of an interval, or a number that is exact."""

MINIMUM = 4
"""Independent observations that a sampled control needs (2026-11-29): Memory has four layouts, and with fewer
a 95% interval is wider than most effects."""


class Verdict(enum.Enum):
    """What became of a claim.

    ``DEPENDS``: it holds under a condition that the evidence names. ``NOT_DECIDED``: the interval includes
    the limit. ``NOT_APPLICABLE``: the question does not arise for this model, as the evidence says.
    ``NOT_ESTABLISHED``: a check or a control of the analysis failed, so that its numbers say nothing about
    the claim.
    """

    CONFIRMED = "confirmed"
    DEPENDS = "depends"
    NOT_CONFIRMED = "not confirmed"
    NOT_DECIDED = "not decided"
    NOT_APPLICABLE = "not applicable"
    NOT_ESTABLISHED = "not established"

    @property
    def states(self) -> bool:
        """Whether the claim, or a part of it, is stated: "depends" is a statement, too."""
        return self in (Verdict.CONFIRMED, Verdict.DEPENDS)

    @staticmethod
    def of(holds: bool, partly: bool = False) -> Verdict:
        """Confirmed if the claim holds, depends if it holds in part, else not confirmed."""
        if holds:
            return Verdict.CONFIRMED
        return Verdict.DEPENDS if partly else Verdict.NOT_CONFIRMED

    @staticmethod
    def judge(conditions: Iterable[bool | None]) -> Verdict:
        """Confirmed if all conditions hold, not confirmed if one does not, else not decided.

        Args:
            conditions: As :meth:`Relation.decides` gives them: None where an interval includes the limit.
        """
        known = list(conditions)
        if any(condition is False for condition in known):
            return Verdict.NOT_CONFIRMED
        return Verdict.NOT_DECIDED if None in known else Verdict.CONFIRMED


class About(enum.Enum):
    """What a claim or a result is about; it decides in which known models it must not come out.

    ``MODEL``: what a model has learnt, so that it must not come out for an untrained one.
    ``REWARD_TO_GO``: an effect of reward-to-go, so that it must not come out for a behaviour clone or a model
    trained with shuffled returns either. ``INSTRUMENT``: the analysis itself, of any model. ``DATA``: the
    demonstrations.
    """

    MODEL = "model"
    REWARD_TO_GO = "reward-to-go"
    INSTRUMENT = "instrument"
    DATA = "demonstrations"

    @property
    def needs_control(self) -> bool:
        """Whether numbers about it could be those of any model, so that a control must show otherwise."""
        return self in (About.MODEL, About.REWARD_TO_GO)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement about the model and what the analysis says of it.

    Attributes:
        id: Stable name, for programs: ``set_routine``.
        text: The statement in a few words.
        criterion: What the numbers must be for it to hold.
        evidence: The numbers, in words.
        verdict: As if the instrument works; :class:`Result` withdraws it where a check or control failed.
        about: What it is about.
    """

    id: str
    text: str
    criterion: str
    evidence: str
    verdict: Verdict
    about: About = About.MODEL


@dataclass(frozen=True, kw_only=True)
class Check:
    """An identity that holds exactly whatever the model is, as far as rounding allows.

    Attributes:
        name: What is compared with what.
        error: Largest deviation; None if it could not be measured, which does not hold.
        tolerance: Largest deviation that counts as rounding.
    """

    name: str
    error: float | None
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the error was measured and is within the tolerance."""
        return self.error is not None and self.error <= self.tolerance


class Relation(enum.Enum):
    """How a value must stand to what it is compared with."""

    ABOVE = "above"
    AT_LEAST = "at least"
    AT_MOST = "at most"
    BELOW = "below"

    def holds(self, value: float, against: float) -> bool:
        """Whether two numbers stand so."""
        return {
            Relation.ABOVE: value > against,
            Relation.AT_LEAST: value >= against,
            Relation.AT_MOST: value <= against,
            Relation.BELOW: value < against,
        }[self]

    def decides(self, value: Uncertain, against: Uncertain) -> bool | None:
        """Whether two numbers stand so beyond their uncertainty; None if their intervals do not tell.

        Args:
            value: An estimate, an interval, or an exact number; without an interval (NaN) nothing is decided.
            against: The same; or a limit.
        """
        value_ends, ends = _ends(value), _ends(against)
        if any(map(math.isnan, (*value_ends, *ends))):
            return None
        up = self in (Relation.ABOVE, Relation.AT_LEAST)
        nearer, farther = (0, 1) if up else (1, 0)
        if self.holds(value_ends[nearer], ends[farther]):
            return True
        return None if self.holds(value_ends[farther], ends[nearer]) else False


@dataclass(frozen=True, kw_only=True)
class Control:
    """A comparison that fails if the finding could have come about without what it is about.

    Attributes:
        name: What is compared with what: "share read at the embedding, untrained model".
        value: The analysis's number, or the control's own where it is held against a limit.
        must_be: How the value must stand to ``against``.
        against: The control's number, or the limit. If either is None (not measured), it does not hold.
        value_interval, against_interval: Their 95% intervals; None for a limit and for what was not sampled.
        n: Independent observations behind the value; None: not sampled.
    """

    name: str
    value: float | None
    must_be: Relation
    against: float | None
    value_interval: tuple[float, float] | None = None
    against_interval: tuple[float, float] | None = None
    n: int | None = None

    @staticmethod
    def of(name: str, value: Estimate, must_be: Relation, against: Estimate | float) -> Control:
        """A control from numbers with their intervals; ``against`` may be a limit.

        An estimate without an interval rests on too few observations to be measured.
        """
        interval, number = None, against
        if not isinstance(against, int | float):
            number = math.nan if math.isnan(against.low) else against.value
            interval = (against.low, against.high)
        measured = not math.isnan(value.low)
        return Control(
            name=name,
            value=value.value if measured else None,
            must_be=must_be,
            against=None if math.isnan(number) else number,
            value_interval=(value.low, value.high) if measured else None,
            against_interval=None if math.isnan(number) else interval,
            n=value.n if value.sampled else None,
        )

    @property
    def holds(self) -> bool:
        """Whether both were measured, on enough observations, and their intervals stand as they must."""
        return self.problem is None

    @property
    def problem(self) -> str | None:
        """Why it does not hold, in words; None if it does."""
        if self.value is None or self.against is None:
            return f"control not measured: {self.name}"
        if self.n is not None and self.n < MINIMUM:
            return f"control on {self.n} observations, fewer than {MINIMUM}: {self.name}"
        decided = self.must_be.decides(
            self.value_interval or self.value, self.against_interval or self.against
        )
        if decided:
            return None
        how = "is not" if decided is False else "is not, beyond its interval,"
        return (
            f"control failed: {self.name}: {self._words(self.value, self.value_interval)} {how} "
            f"{self.must_be.value} {self._words(self.against, self.against_interval)}"
        )

    def __str__(self) -> str:
        value = (
            "not measured" if self.value is None else self._words(self.value, self.value_interval)
        )
        against = (
            "not measured"
            if self.against is None
            else self._words(self.against, self.against_interval)
        )
        return f"{self.name}: {value}, must be {self.must_be.value} {against}"

    @staticmethod
    def _words(value: float, interval: tuple[float, float] | None) -> str:
        if interval is None or interval[0] == interval[1]:
            return f"{value:.3g}"
        return f"{value:.3g} [{interval[0]:.3g}, {interval[1]:.3g}]"


def _ends(number: Uncertain) -> tuple[float, float]:
    if isinstance(number, int | float):
        return number, number
    return number if isinstance(number, tuple) else (number.low, number.high)
