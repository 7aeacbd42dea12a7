"""Headline metrics of a sweep over what is swept, as MLflow shows them on the sweep's run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from dtx.running.names import short_names, title
from dtx.sweep.compare import is_seed

_DIGITS = 9  # after the point, of a value that can be a step
_CURVES = 24  # of a metric over a field: one for each combination of the other fields


def over_swept(
    rows: Sequence[Mapping[str, Any]], swept: Sequence[str], metrics: Sequence[str]
) -> list[tuple[str, float, int]]:
    """Means over seeds, as (name, value, step).

    A field with numbers gives a curve of each metric; its step is the value, times a power of ten where the
    values are no whole numbers: ``calibration/mae by steps``, ``calibration/mae by lr x 10000``. With several
    fields there is a curve for each combination of the others. Without any field of numbers there is a metric
    for each combination of values: ``calibration/mae of dt small``.

    Args:
        rows: One a job: swept fields as text or numbers, and metrics, which may be missing.
        swept: Names of the swept fields.
        metrics: Names of the metrics.
    """
    rows = [row for row in rows if any(row.get(metric) is not None for metric in metrics)]
    questions = [name for name in swept if not is_seed(name)]
    short = short_names(list(swept))
    steps = {name: _steps([row[name] for row in rows]) for name in questions}
    numeric = {name: found for name, found in steps.items() if found}
    points: list[tuple[str, float, int]] = []
    for field, (scale, step) in numeric.items():
        others = [name for name in questions if name != field]
        if len({_values(row, others) for row in rows}) > _CURVES:
            others = []  # the mean over them
        by = f"by {short[field]}{f' x {scale}' if scale != 1 else ''}"
        for metric in metrics:
            groups = _grouped(rows, metric, [*others, field])
            for values, mean in groups.items():
                rest = _named(dict(zip(others, values, strict=False)))
                name = f"{metric} {by}" + (f"/{rest}" if rest else "")
                points.append((name, mean, step[values[-1]]))
    if numeric or len({_values(row, questions) for row in rows}) > _CURVES:
        return points
    for metric in metrics:
        for values, mean in _grouped(rows, metric, questions).items():
            named = _named(dict(zip(questions, values, strict=True)))
            points.append((f"{metric} of {named}" if named else metric, mean, 0))
    return points


def _named(values: Mapping[str, str]) -> str:
    return title(values).replace("=", " ")  # MLflow refuses = in a name


def _values(row: Mapping[str, Any], fields: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in fields)


def _grouped(
    rows: Sequence[Mapping[str, Any]], metric: str, fields: Sequence[str]
) -> dict[tuple[str, ...], float]:
    """Mean of a metric by the values of fields."""
    groups: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        value = row.get(metric)
        if value is not None and value == value:
            groups.setdefault(_values(row, fields), []).append(float(value))
    return {values: sum(some) / len(some) for values, some in groups.items()}


def _steps(values: Sequence[Any]) -> tuple[int, dict[str, int]] | None:
    """The power of ten that makes all values whole, and each as a whole number; None: they are no numbers."""
    try:
        numbers = {str(v): Decimal(str(v)) for v in values}
    except InvalidOperation:
        return None
    if len(numbers) < 2 or not all(number.is_finite() for number in numbers.values()):
        return None
    exponents = [number.normalize().as_tuple().exponent for number in numbers.values()]
    digits = max(0, *(-e for e in exponents if isinstance(e, int)))
    scale = 10**digits
    if digits > _DIGITS or any(abs(n * scale) > 2**62 for n in numbers.values()):
        return None
    return scale, {text: int(number * scale) for text, number in numbers.items()}
