"""The numbers that an experiment is expected to reach: ``experiments/PRESET/expected.json``.

::

    {"seeds": [0, 1, 2],
     "numbers": {"agent/success": {"of": "calibration.dataset.agent", "low": 0.95, "high": 1.0}}}

Each is the name of a metric; ``of`` is its stage: a target, followed by names of inputs. The mean over the
seeds must lie between low and high, inclusive.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from dtx.config.compose import CONF
from dtx.errors import UserError
from dtx.files import read_json
from dtx.report import read_metrics
from dtx.stage import Stage
from dtx.text import suggest


@dataclasses.dataclass(frozen=True)
class Number:
    """A metric of a stage and its tolerance."""

    name: str
    of: str
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Expected:
    """Seeds to run, and the tolerances of the means over them."""

    path: Path
    seeds: tuple[int, ...]
    numbers: tuple[Number, ...]


@dataclasses.dataclass(frozen=True)
class ReachedNumber:
    """A number as measured: one value per seed, None where the stage has none."""

    number: Number
    values: tuple[float | None, ...]

    @property
    def mean(self) -> float | None:
        """Over the seeds; None if one of them has no value."""
        values = [v for v in self.values if v is not None]
        return math.fsum(values) / len(values) if len(values) == len(self.values) else None

    @property
    def ok(self) -> bool:
        """Whether the mean is within the tolerance."""
        return self.mean is not None and self.number.low <= self.mean <= self.number.high


def path_of(preset: str) -> Path:
    """Where a clone has the expected numbers of a preset."""
    return CONF.parent / "experiments" / preset / "expected.json"


def seeds_of(preset: str) -> tuple[int, ...]:
    """The seeds of a preset's expected numbers; none if there is no such file."""
    path = path_of(preset)
    return read(path).seeds if path.exists() else ()


def read(path: Path) -> Expected:
    """Read and check a file.

    Raises:
        UserError: Not there, or not of the form above: what is wrong.
    """
    try:
        content = read_json(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict) or set(content) != {"seeds", "numbers"}:
        raise UserError(f'{path}: the form is {{"seeds": [...], "numbers": {{...}}}}')
    seeds, numbers = content["seeds"], content["numbers"]
    if not isinstance(seeds, list) or not seeds or not all(type(s) is int for s in seeds):
        raise UserError(f"{path}: seeds: a list of whole numbers is wanted, not {seeds!r}")
    if not isinstance(numbers, dict) or not numbers:
        raise UserError(f"{path}: numbers: names with tolerances are wanted, not {numbers!r}")
    return Expected(path, tuple(seeds), tuple(_number(path, *item) for item in numbers.items()))


def _number(path: Path, name: str, content: object) -> Number:
    try:
        number = Number(name, **content)  # type: ignore[arg-type]
        if isinstance(number.of, str) and number.low <= number.high:
            return number
    except TypeError:
        pass
    form = '{"of": stage, "low": number, "high": number} with low <= high'
    raise UserError(f"{path}: numbers: {name}: {form} is wanted, not {json.dumps(content)}")


def stages_of(expected: Expected, targets: Mapping[str, Stage]) -> dict[str, Stage]:
    """The stages that the numbers belong to, by ``of``.

    Raises:
        UserError: There is no such stage.
    """
    return {n.of: _stage_at(targets, n.of, f"{expected.path}: {n.name}") for n in expected.numbers}


def _stage_at(targets: Mapping[str, Stage], of: str, number: str) -> Stage:
    stage, known, rest = None, dict(targets), of
    while stage is None or rest:
        name = next((n for n in known if rest == n or rest.startswith(f"{n}.")), None)
        if name is None:
            raise UserError(f"{number}: of: no stage {of!r}{suggest(rest, list(known))}")
        stage = known[name]
        known, rest = stage.inputs(), rest[len(name) + 1 :]
    return stage


def measure(expected: Expected, targets: Mapping[str, Stage]) -> dict[str, float | None]:
    """The values of the expected numbers in one experiment, from the current store.

    Raises:
        UserError: The file names a stage or a number that does not exist.
    """
    places = stages_of(expected, targets)
    values = {}
    for number in expected.numbers:
        headline = read_metrics(places[number.of].path)
        if number.name not in headline:
            known = suggest(number.name, list(headline))
            raise UserError(
                f"{expected.path}: {number.name}: {number.of} has no such number{known}"
            )
        values[number.name] = headline[number.name]
    return values


def judge(expected: Expected, by_seed: Sequence[Mapping[str, float | None]]) -> list[ReachedNumber]:
    """Compare what :func:`measure` returned for every seed with the tolerances."""
    return [ReachedNumber(n, tuple(values[n.name] for values in by_seed)) for n in expected.numbers]
