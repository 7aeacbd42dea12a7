"""One page on all analyses of a run: what was asked, what came out, how sure that is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dtx.report import Report, read_metrics
from dtx.stage import Stage


@dataclass(frozen=True, kw_only=True)
class ReportPage(Stage):
    """Gathers the artefacts of other analyses; ``conf/analysis/report.yaml`` explains the fields.

    Emits the page ``figures/report.html``, the table ``lines`` (the ten headline lines), and ``report/*``
    counts of verdicts. It computes nothing and judges nothing anew: a verdict is that of the analysis.
    """

    analyses: dict[str, Stage]

    def check(self) -> Iterator[tuple[str, str]]:
        """There is something to report on."""
        if not self.analyses:
            yield (
                "analyses",
                "there is nothing to report on: choose other analyses too: analysis=[calibration,report]",
            )

    def run(self, out: Path) -> None:
        """Write the page, the table of lines, the headline."""
        import pandas as pd

        from dtx.analysis.report.lines import counts, lines
        from dtx.analysis.report.page import Page

        found = lines(self.analyses)
        report = Report(out)
        report.table("lines", pd.DataFrame([vars(line) for line in found]))
        report.page("report", Page(self, found))
        report.headline(counts(found, self.analyses))

    def summary(self) -> str:
        """Where the page is, and how the lines came out."""
        n = {k: int(v or 0) for k, v in read_metrics(self.path).items()}
        return (
            f"{n['report/established']} of {n['report/lines']} headline lines established, "
            f"{n['report/not_established']} not, {n['report/not_asked']} not asked: "
            f"{self.path / 'figures' / 'report.html'}"
        )
