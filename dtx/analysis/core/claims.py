"""Claims of a study beside what was found: one table, one file, one sentence."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dtx.report import Report, write_atomically

CONFIRMED, NOT_CONFIRMED, DEPENDS = "confirmed", "not confirmed", "depends"
CLAIMS = "claims.json"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim and what came out.

    Attributes:
        claim: The claim in a few words.
        wanted: What the numbers must be for it to hold.
        found: The numbers, in words.
        verdict: ``confirmed``, ``not confirmed``, ``depends``, or ``not established: WHY``.
    """

    claim: str
    wanted: str
    found: str
    verdict: str


def verdict(holds: bool, partly: bool = False) -> str:
    """``confirmed`` if it holds, ``depends`` if it holds under a condition that ``found`` names."""
    return CONFIRMED if holds else DEPENDS if partly else NOT_CONFIRMED


def write_claims(report: Report, claims: Iterable[Claim], failed: Sequence[str] = ()) -> None:
    """Write the table ``claims`` and ``claims.json``.

    Args:
        report: Of the stage.
        claims: With the verdicts that follow if the instrument works.
        failed: Identities and controls that did not hold; with any, nothing is established.
    """
    import pandas as pd

    why = f"not established: {'; '.join(failed)}"
    rows = [asdict(replace(c, verdict=why) if failed else c) for c in claims]
    report.table("claims", pd.DataFrame(rows))
    write_atomically(report.out / CLAIMS, json.dumps(rows, indent=1) + "\n")


def read_claims(folder: Path) -> list[Claim]:
    """What :func:`write_claims` wrote."""
    return [Claim(**row) for row in json.loads((folder / CLAIMS).read_text())]


def summarise(folder: Path) -> str:
    """One line: each claim with its verdict and numbers; or once why nothing is established."""
    claims = read_claims(folder)
    refused = [c.verdict for c in claims if c.verdict.startswith("not established")]
    if refused:
        return refused[0]
    return "; ".join(f"{c.claim}: {c.verdict} ({c.found})" for c in claims)
