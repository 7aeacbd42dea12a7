"""D1-D3: outcomes of the demonstrations, an audit of reward-to-go and padding, duplication."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dtx.dataset.dataset import Dataset
from dtx.dt.decision_transformer import DecisionTransformer
from dtx.report import Report, read_metrics
from dtx.stage import Stage

if TYPE_CHECKING:
    import pandas as pd

    from dtx.dataset.episodes import Episodes

STUDY_COUNTS = {"success": 18_000, "wrong": 2_000, "truncated": 4_000}
"""Of about 24,000 episodes in the MemoryDT study."""


@dataclass(frozen=True, kw_only=True)
class Demonstrations(Stage):
    """Look at the data before any model; ``conf/analysis/demonstrations.yaml`` explains the fields.

    Control: the study's counts beside ours. Exact checks: a success is worth 1 - 0.9 t / max_steps, counts
    add up, every reward-to-go is the sum of the rewards from there on, every window equals its slow twin.
    """

    dataset: Dataset
    dt: DecisionTransformer
    audited_windows: int
    seed: int

    def check(self) -> Iterator[tuple[str, str]]:
        """Ranges."""
        if self.audited_windows < 1:
            yield "audited_windows", "must be at least 1"
        if self.seed < 0:
            yield "seed", "must be 0 or more"

    def run(self, out: Path) -> None:
        """Write tables ``outcomes``, ``audit`` and ``duplication``, the figure and the headline."""
        from dtx.analysis.demonstrations.audit import audit, duplication
        from dtx.analysis.demonstrations.plots import draw

        episodes: Episodes = self.dataset.load()
        horizon = self.dataset.env.horizon  # type: ignore[attr-defined]
        report = Report(out)
        outcomes = outcome_table(episodes)
        checks = audit(episodes, horizon, self.dt, self.audited_windows, self.seed)
        repeated = duplication(episodes)
        report.table("outcomes", outcomes)
        report.table("audit", checks)
        report.table("duplication", repeated)
        report.headline(
            {
                "data/success_share": float((episodes.outcome == 0).mean()),
                "data/audit_passed": float(checks["violations"].sum() == 0),
                **{f"data/{name}": value for name, value in repeated.itertuples(index=False)},
            }
        )
        draw(report, episodes, horizon)

    def summary(self) -> str:
        """Whether the audit passed, and how much is duplicated."""
        n = read_metrics(self.path)
        verdict = "passed" if n["data/audit_passed"] else "FAILED: see the table `audit`"
        return (
            f"audit {verdict}; {n['data/unique_episodes']:,.0f} distinct episodes, "
            f"{n['data/split_overlap']:.0%} of validation observations occur in training"
        )


def outcome_table(episodes: Episodes) -> pd.DataFrame:
    """Counts, shares, mean length and mean return by temperature and outcome, the study's counts beside."""
    import numpy as np
    import pandas as pd

    from dtx.dataset.episodes import Outcome

    rows = []
    for temperature in [None, *np.unique(episodes.temperature)]:
        mine = (
            np.ones(len(episodes.start), bool)
            if temperature is None
            else episodes.temperature == temperature
        )
        for outcome in Outcome:
            chosen = mine & (episodes.outcome == outcome)
            name = outcome.name.lower()
            rows.append(
                {
                    "temperature": "all" if temperature is None else f"{temperature:g}",
                    "outcome": name,
                    "episodes": int(chosen.sum()),
                    "share": float(chosen.sum() / mine.sum()),
                    "study_share": STUDY_COUNTS[name] / 24_000 if temperature is None else None,
                    "mean_length": float(episodes.length[chosen].mean()) if chosen.any() else None,
                    "mean_return": float(episodes.returns[chosen].mean()) if chosen.any() else None,
                }
            )
    return pd.DataFrame(rows)
