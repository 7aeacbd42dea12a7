"""What an analysis found, in one form for all: written as ``result.json`` with its tables and arrays.

The report, the scorecard, the model card, ``dtx status``, ``dtx compare`` and MLflow read this and nothing
else. Nothing is decided by the wording of a sentence.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtx.analysis.core.verdicts import About, Check, Claim, Control, Relation, Verdict
from dtx.files import read_json, size_of, taken_from
from dtx.report import HEADLINE, RESULT, Report, Tables, read_metrics, write_atomically

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

CLAIMS = "claims"
"""The table that repeats the claims for readers of tables."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What an analysis found.

    Attributes:
        finding: One sentence with the numbers behind it; the verdict is not part of it. By default the
            claims with their evidence.
        metrics: Numbers by bare name (``spread``); readers see them as ``ANALYSIS/spread``. None: missing.
            ``identity_error`` (the largest of the checks) and ``distinct_inputs`` are added.
        tables: By name, one observation a row.
        arrays: By name.
        checks: Exact identities; at least one.
        controls: Of the analysis as a whole. A claim's own control is part of its criterion.
        claims: With verdicts.
        distinct_inputs: Distinct inputs behind the numbers.
        about: What the numbers are about. A result about a model needs a control that was measured.
        timing: Speeds and seconds by bare name, which differ between equal runs: no part of ``result.json``.
        problems: Other reasons for which nothing is established, each a sentence.
    """

    metrics: Mapping[str, float | None]
    checks: Sequence[Check]
    finding: str = ""
    controls: Sequence[Control] = ()
    claims: Sequence[Claim] = ()
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    distinct_inputs: int | None = None
    about: About = About.MODEL
    timing: Mapping[str, float] = field(default_factory=dict)
    problems: Sequence[str] = ()

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "finding", self.finding or self._claims_in_words())
        put(self, "checks", [replace(c, error=finite(c.error)) for c in self.checks])
        errors = [c.error for c in self.checks if c.error is not None]
        added = {
            "identity_error": max(errors, default=None),
            "distinct_inputs": self.distinct_inputs,
        }
        metrics = {**added, **self.metrics}
        put(self, "metrics", {name: finite(value) for name, value in metrics.items()})
        put(
            self,
            "controls",
            [replace(c, value=finite(c.value), against=finite(c.against)) for c in self.controls],
        )
        if not self.established:
            withdrawn = [
                c
                if c.verdict is Verdict.NOT_APPLICABLE
                else replace(c, verdict=Verdict.NOT_ESTABLISHED)
                for c in self.claims
            ]
            put(self, "claims", withdrawn)

    @property
    def established(self) -> bool:
        """Whether the numbers mean what the finding says: by one rule for all analyses.

        There is a check, every check and every control holds, and there is no other problem. Where the
        numbers are about a model there is a control: without one they could be those of any model.
        """
        return not any(True for _ in self.reasons())

    def reasons(self) -> Iterator[str]:
        """Why nothing is established, a sentence each; none if it is."""
        yield from self.problems
        if not self.checks and not self.problems:
            yield "no exact check was made"
        for check in self.checks:
            if check.error is None:
                yield f"check not measured: {check.name}"
            elif not check.holds:
                yield f"check failed: {check.name}: {check.error:.2g} is above {check.tolerance:g}"
        if not self.controls and not self.problems and self.about.needs_control:
            yield "no control was measured"
        yield from (control.problem for control in self.controls if control.problem)

    @property
    def summary(self) -> str:
        """The finding; with the reasons where nothing is established, else with the claims' verdicts."""
        if reasons := list(self.reasons()):
            return f"not established ({'; '.join(reasons)}): {self.finding}"
        if self.is_claims:
            return "; ".join(f"{c.text}: {c.verdict.value} ({c.evidence})" for c in self.claims)
        return "; ".join([self.finding, *(f"{c.text}: {c.verdict.value}" for c in self.claims)])

    @property
    def is_claims(self) -> bool:
        """Whether the finding is nothing but the claims with their evidence."""
        return bool(self.claims) and self.finding == self._claims_in_words()

    def _claims_in_words(self) -> str:
        return "; ".join(f"{claim.text} ({claim.evidence})" for claim in self.claims)

    def claim(self, id: str) -> Claim:
        """A claim by its id.

        Raises:
            KeyError: There is none.
        """
        for claim in self.claims:
            if claim.id == id:
                return claim
        raise KeyError(id)

    def write(self, out: Path, analysis: str) -> None:
        """Write ``result.json``, ``tables/*.parquet``, ``arrays/*.npy`` and ``timing.jsonl``.

        Args:
            out: The artefact's folder.
            analysis: Name of the analysis.
        """
        import numpy as np
        import pandas as pd

        report = Report(out)
        for name, table in self.tables.items():
            report.table(name, table)
        if self.claims:
            report.table(CLAIMS, pd.DataFrame([_plain(claim) for claim in self.claims]))
        if self.timing:
            report.timing(0, {f"{analysis}/{name}": v for name, v in self.timing.items()})
        for name, array in self.arrays.items():
            path = out / "arrays" / f"{name}.npy"
            path.parent.mkdir(exist_ok=True)
            np.save(path, array, allow_pickle=False)
        recorded = {
            "analysis": analysis,
            "finding": self.finding,
            "established": self.established,
            "reasons": list(self.reasons()),
            "metrics": dict(self.metrics),
            "checks": [{**_plain(c), "holds": c.holds} for c in self.checks],
            "controls": [{**_plain(c), "holds": c.holds} for c in self.controls],
            "claims": [_plain(c) for c in self.claims],
            "distinct_inputs": self.distinct_inputs,
            "about": self.about.value,
            "problems": list(self.problems),
            "tables": list(self.tables),
            "arrays": list(self.arrays),
        }
        write_atomically(out / RESULT, json.dumps(recorded, indent=1) + "\n")

    @staticmethod
    def read(folder: Path) -> Result:
        """What :meth:`write` wrote; tables and arrays are read when they are asked for.

        An artefact from before results were recorded gives its metrics and tables, and is not established:
        its checks and controls are not on record.
        """
        if not (folder / RESULT).exists():
            return _unrecorded(folder)
        recorded = read_json(folder / RESULT)
        with taken_from(folder / RESULT):
            return Result._of(recorded, folder)

    @staticmethod
    def _of(recorded: Mapping[str, Any], folder: Path) -> Result:
        return Result(
            finding=recorded["finding"],
            metrics=recorded["metrics"],
            checks=[Check(**_without_holds(c)) for c in recorded["checks"]],
            controls=[
                Control(**{**_without_holds(c), "must_be": Relation(c["must_be"])} | _intervals(c))
                for c in recorded["controls"]
            ],
            claims=[
                Claim(**{**c, "verdict": Verdict(c["verdict"]), "about": About(c["about"])})
                for c in recorded["claims"]
            ],
            tables=Tables(folder),
            arrays=Arrays(folder),
            distinct_inputs=recorded["distinct_inputs"],
            about=About(recorded.get("about", About.MODEL.value)),
            problems=recorded["problems"],
        )


class Arrays(Mapping[str, "np.ndarray"]):
    """The arrays of an artefact by name, memory-mapped when they are asked for.

    Args:
        folder: Of the artefact.
    """

    def __init__(self, folder: Path):
        self._paths = {path.stem: path for path in sorted((folder / "arrays").glob("*.npy"))}

    def __getitem__(self, name: str) -> np.ndarray:
        from numpy.lib.format import open_memmap

        path = self._paths[name]
        size_of(path)
        with taken_from(path):
            return open_memmap(path, mode="r")

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


def largest(errors: Iterable[float]) -> float:
    """The largest error, 0 if there are none; NaN if one is, which ``max`` may pass over."""
    values = list(errors)
    return math.nan if any(map(math.isnan, values)) else max(values, default=0.0)


def finite(value: float | None) -> float | None:
    """A plain float; None for what is missing or not finite."""
    return None if value is None or not math.isfinite(value) else float(value)


def _unrecorded(folder: Path) -> Result:
    metrics = {name.partition("/")[2]: value for name, value in read_metrics(folder).items()}
    again = f"`dtx invalidate {folder.name}` and the same run compute it again"
    known = (folder / HEADLINE).exists()
    return Result(
        finding=f"{len(metrics)} metrics" if known else "nothing on record",
        metrics=metrics,
        checks=(),
        tables=Tables(folder),
        problems=[f"computed before checks and controls were recorded; {again}"],
    )


def _plain(value: Any) -> dict[str, Any]:
    """A claim, check or control as JSON."""
    plain = {name: getattr(value, name) for name in value.__dataclass_fields__}
    return {k: v.value if isinstance(v, enum.Enum) else v for k, v in plain.items()}


def _intervals(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """A control's intervals as pairs again; results from before they were recorded have none."""
    pairs = ("value_interval", "against_interval")
    return {k: tuple(recorded[k]) for k in pairs if recorded.get(k) is not None}


def _without_holds(recorded: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in recorded.items() if name != "holds"}
