"""The space of a search, as Hydra's overrides write it, and the values of a trial as overrides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException

from dtx.config.build import ConfigError
from dtx.text import first_line

if TYPE_CHECKING:
    from optuna.trial import Trial

_DIGITS = 4
"""Significant digits of a suggested number, at least: names and commands stay readable."""


@dataclass(frozen=True)
class Parameter:
    """A field that is searched over.

    Attributes:
        name: Of the field: ``dt.optimiser.learning_rate``.
        choices: Its values as overrides write them; empty for numbers.
        low: The smallest number.
        high: The greatest one; it belongs to the space.
        step: Between two numbers; None: any number between.
        log: Whether numbers are spread evenly over their logarithm.
        whole: Whether numbers are whole.
    """

    name: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    whole: bool = False

    def suggest(self, trial: Trial) -> str | float:
        """The value that a trial has, or gets now."""
        if self.choices:
            return str(trial.suggest_categorical(self.name, self.choices))
        low, high, log = self.low, self.high, self.log
        if self.whole:
            step = int(self.step or 1)
            return trial.suggest_int(self.name, int(low), int(high), step=step, log=log)
        return trial.suggest_float(self.name, low, high, step=self.step, log=log)

    def written(self, value: str | float) -> str:
        """A value as an override writes it: a number with digits that tell thousands of them apart."""
        if isinstance(value, str):
            return value
        if self.whole:
            return str(int(value))
        span = (self.high - self.low) or 1.0
        size = max(abs(self.low), abs(self.high)) or 1.0
        digits = _DIGITS + max(0, round(math.log10(size / span)))
        rounded = float(f"{value:.{min(digits, 17)}g}")
        return repr(min(max(rounded, self.low), self.high))

    def extremes(self) -> tuple[str, ...]:
        """All choices, or the ends of the numbers: what a search tries out before it runs anything."""
        if self.choices:
            return self.choices
        ends = dict.fromkeys((self.low, self.high))
        return tuple(self.written(end) for end in ends)

    def recorded(self) -> dict[str, Any]:
        """Plain values, by which a study is recognised."""
        return {**asdict(self), "choices": list(self.choices)}


def space(overrides: Sequence[Override]) -> list[Parameter]:
    """The parameters of overrides that give several values.

    Raises:
        ConfigError: With everything that is no space.
    """
    found, errors = [], []
    for override in overrides:
        try:
            found.append(_parameter(override))
        except (HydraException, ValueError) as error:
            what = f"{str(override.input_line).partition('=')[2]}: {first_line(error)}"
            errors.append((override.get_key_element(), what))
    if not errors and not found:
        what = "no field is searched: give one an interval, as 'dt.optimiser.weight_decay=interval(0,0.1)'"
        errors.append(("hydra/sweeper", what))
    if errors:
        raise ConfigError(errors)
    return found


def _parameter(override: Override) -> Parameter:
    name, value = override.get_key_element(), override.value()
    tags = (
        {str(tag) for tag in value.tags}
        if isinstance(value, (IntervalSweep, RangeSweep))
        else set()
    )
    if unknown := tags - {"log", "int", "float"}:
        raise ValueError(f"tag {min(unknown)!r} means nothing here; log does")
    log = "log" in tags
    if isinstance(value, IntervalSweep):
        low, high = value.start, value.end
        if low is None or high is None:
            raise ValueError("an interval has two ends")
        whole = isinstance(low, int) and isinstance(high, int)
        return _checked(Parameter(name, (), low, high, None, log, whole))
    if isinstance(value, RangeSweep):
        numbers = [float(number) for number in value.range()]
        if not numbers:
            raise ValueError("there is no value in it")
        whole = all(isinstance(n, int) for n in (value.start, value.step))
        step = abs(float(value.step))
        return _checked(Parameter(name, (), min(numbers), max(numbers), step, log, whole))
    choices = tuple(dict.fromkeys(override.sweep_string_iterator()))
    if not choices:
        raise ValueError("there is no value in it")
    return Parameter(name, choices)


def _checked(parameter: Parameter) -> Parameter:
    """A parameter of numbers.

    Raises:
        ValueError: It is no interval.
    """
    low, high = parameter.low, parameter.high
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("both ends must be finite")
    if low > high:
        raise ValueError(f"{low:g} is above {high:g}")
    if parameter.log and low <= 0:
        raise ValueError(f"a logarithm needs numbers above 0, not {low:g}")
    if parameter.log and parameter.step not in (None, 1.0):
        raise ValueError("log takes no step: leave out the step or the tag")
    return parameter
