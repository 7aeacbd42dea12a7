"""One page on all analyses of a run: what was asked, what came out, how sure that is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dtx.report import Report, read_metrics
from dtx.stage import Stage


@dataclass(frozen=True, kw_only=True)
class ReportPage(Stage):
    """Gathers the results of other analyses; ``conf/analysis/report.yaml`` explains the fields.

    Writes the page ``figures/report.html``, the table ``lines``, and ``report/*`` counts of verdicts. It
    computes nothing and judges nothing anew: what is established is so by the analysis' own result.
    """

    headline: ClassVar[tuple[str, ...]] = (
        "report/confirmed",
        "report/depends",
        "report/not_confirmed",
        "report/established",
    )

    analyses: dict[str, Stage]

    def check(self) -> Iterator[tuple[str, str]]:
        """There is something to report on."""
        if not self.analyses:
            yield (
                "analyses",
                "there is nothing to report on: choose other analyses too: analysis=[calibration,report]",
            )

    def run(self, out: Path) -> None:
        """Write the page, the table of lines, the counts."""
        import pandas as pd

        from dtx.analysis.report.lines import counts, lines, results_of
        from dtx.analysis.report.page import ReportHtml

        results = results_of(self.analyses)
        summary = lines(self.analyses, results)
        report = Report(out)
        rows = [{k: v for k, v in vars(line).items() if k != "claims"} for line in summary]
        report.table("lines", pd.DataFrame(rows))
        report.page("report", ReportHtml(self.analyses, results, summary))
        report.headline(counts(summary, results))

    def summary(self) -> str:
        """Where the page is, and how many lines are established."""
        n = {k: int(v or 0) for k, v in read_metrics(self.path).items()}
        return (
            f"{n['report/established']} of {n['report/asked']} lines established, "
            f"{n['report/not_asked']} not asked: {self.path / 'figures' / 'report.html'}"
        )
