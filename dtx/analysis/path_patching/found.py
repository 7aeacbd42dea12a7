"""What a sweep of edges found: the strongest of each edit, beside their donors, and the claim about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dtx.analysis.core.donors import (
    Beside,
    Part,
    about,
    beside,
    edited_like,
    evidence,
    verdict,
)
from dtx.analysis.core.gaps import Condition, Gaps
from dtx.analysis.core.patching_spec import DONORS, EDIT
from dtx.analysis.core.verdicts import Claim, Verdict
from dtx.analysis.path_patching.spec import PathPatchingSpec

LISTED = 30
"""Edges an edit and reward-to-go in the table ``important``: those that donors are measured at."""
CELL = ["sender", "receiver", "input", "position", "token"]


@dataclass(frozen=True)
class Found:
    """Effects of cells, and where they are measured."""

    effects: pd.DataFrame
    runs: pd.DataFrame
    gaps: Gaps
    spec: PathPatchingSpec

    def conditions(self, edit: str) -> list[Condition]:
        """Where an edit can be measured."""
        return self.gaps.conditions(edit, [self.spec.direction])

    def measured(self, edit: str) -> list[Condition]:
        """Where some cell of an edit has a rho, whether or not that can be stated of the model."""
        every = self.gaps.every(edit, [self.spec.direction])
        return [condition for condition in every if len(self.own(condition))]

    def own(self, condition: Condition) -> pd.DataFrame:
        """The edit's cells there: single tokens, or all together where nothing else was patched."""
        rows = condition.rows(self.effects)
        rows = rows[(rows["kind"] == EDIT) & rows["rho"].notna()]
        single = rows[rows["position"] >= 0]
        return pd.DataFrame(single if len(single) else rows)

    def beside(self, condition: Condition, row: pd.Series) -> Beside:
        """A cell and its donors."""
        like = edited_like(self.runs)
        return beside(condition, self.effects, row, CELL[:4], _place(row), like)

    def listed(self, condition: Condition) -> pd.DataFrame:
        """The strongest cells there, to either side."""
        own = self.own(condition)
        size = own["rho"].abs()
        own = own.assign(
            above=size.groupby(own["input"], observed=True).rank(method="min", pct=True)
        )
        return own.loc[size.sort_values(ascending=False, kind="stable").index[:LISTED]]

    def strongest(self, edits: list[str]) -> Iterator[tuple[Condition, Beside]]:
        """The edge that brings most, of each edit where its runs differ."""
        for edit in edits:
            for condition in self.conditions(edit):
                own = self.own(condition)
                if self.gaps.there(condition) and len(own):
                    yield condition, self.beside(condition, own.loc[own["rho"].idxmax()])


def important(found: Found, edits: list[str]) -> pd.DataFrame:
    """The strongest cells, to either side, of each edit and reward-to-go, each with its controls.

    ``expected_0`` and ``expected_1``: mean rho of the same cell with donors without and with the source run's
    answer. ``above``: share of the cells with the same kind of receiver that are weaker: what a random edge
    would bring.
    """
    tables = []
    for condition in (c for edit in edits for c in found.measured(edit)):
        own, here = found.listed(condition), condition.rows(found.effects)
        for kind in DONORS:
            expected = condition.direction.expected(kind.removeprefix("donor_"))
            donor = here[here["kind"] == kind][[*CELL[:4], "rho"]]
            donor = donor.rename(columns={"rho": f"expected_{expected}"})
            own = own.merge(donor, on=CELL[:4], how="left")
        tables.append(own)
    return pd.concat(tables, ignore_index=True) if tables else found.effects.iloc[:0]


def metrics_of(found: Found, best: Mapping[Condition, Beside]) -> dict[str, float | None]:
    """Of the strongest edge of each edit, beside its donors and beside a random edge."""
    metrics: dict[str, float | None] = {}
    for condition, each in best.items():
        name = f"{condition.edit}_{condition.direction.value}_{condition.target:g}"
        metrics[f"{name}_best_rho"] = each.own.value
        for kind in DONORS:
            expected = condition.direction.expected(kind.removeprefix("donor_"))
            donor = each.donors.get(kind)
            metrics[f"{name}_expected_{expected}_rho"] = donor.value if donor else None
        own = found.own(condition)
        of_kind = own[own["input"] == own.loc[own["rho"].idxmax(), "input"]]
        metrics[f"{name}_random_95"] = float(of_kind["rho"].quantile(0.95))
    return metrics


def claim(found: Found, best: Mapping[Condition, Beside], edit: str) -> Claim:
    """Its strongest edge is its own, and no other world's, in each condition."""
    parts = [
        Part(condition, best[condition].holds(), best[condition].words())
        if condition in best
        else Part(condition, None, found.gaps.words(edit))
        for condition in found.conditions(edit)
        if len(found.own(condition))
    ]
    of_edit = [each for c, each in best.items() if c.edit == edit]
    unmeasured = bool(of_edit) and not any(each.donors for each in of_edit)
    return Claim(
        id=f"{edit}_carried",
        text=f"the strongest edge of {edit} restores more than its control",
        criterion="at one token it restores more than activations from an unrelated layout without the "
        "answer, and so do activations from one with it; beyond the intervals",
        evidence=evidence(parts, found.gaps.words(edit)),
        verdict=Verdict.NOT_ESTABLISHED if unmeasured else verdict(parts),
        about=about(found.runs, edit),
    )


def finding(found: Found, best: Mapping[Condition, Beside], edits: list[str]) -> str:
    """The strongest edges of each edit, by reward-to-go."""
    parts = []
    for edit in edits:
        of_edit = [c for c in best if c.edit == edit]
        if not of_edit:
            parts.append(f"{edit}: {found.gaps.words(edit)}")
        for c in of_edit:
            first = found.own(c).nlargest(3, "rho")
            names = ", ".join(f"{_place(row)} {row['rho']:.2f}" for _, row in first.iterrows())
            carries = best[c].carries()
            said = (
                f"the first carries {carries}"
                if carries
                else "the first is no larger than its control"
            )
            parts.append(f"{edit} ({c}): {names}; {said}")
    kinds = dict.fromkeys(each.own.kind for each in best.values())
    return "; ".join(parts) + (f" ({', '.join(kinds)})" if kinds else "")


def _place(edge: Any) -> str:
    """``embed > L1H0 v at S1``."""
    read = f" {edge['input']}" if edge["input"] in ("q", "k", "v") else ""
    return f"{edge['sender']} > {edge['receiver']}{read} at {edge['token']}"
