"""Faithfulness against the number of edges kept, beside random circuits."""

from __future__ import annotations

from dtx.analysis.smallest_circuit.compute import Found
from dtx.figures import new
from dtx.report import Report

RANKED, RANDOM = "#1d3557", "#8d99ae"


def draw(report: Report, found: Found, wanted: float) -> None:
    """One panel an edit whose runs differ enough."""
    curve = found.tables["curve"]
    if not len(curve):
        return
    edits = curve["edit"].drop_duplicates().tolist()
    columns = min(len(edits), 2)
    rows = [edits[i : i + columns] for i in range(0, len(edits), columns)]
    rows[-1] += ["."] * (columns - len(rows[-1]))
    figure, axes = new(7.0, 2.6 * len(rows), mosaic=rows)
    for edit in edits:
        axis, mine = axes[edit], curve[curve["edit"] == edit]
        for kind, colour in (("random", RANDOM), ("ranked", RANKED)):
            part = mine[mine["circuit"] == kind]
            axis.fill_between(
                part["size"], part["low"], part["high"], color=colour, alpha=0.2, lw=0
            )
            axis.plot(
                part["size"], part["faithfulness"], color=colour, marker="o", ms=3, label=kind
            )
        best = found.smallest[edit]
        if best is not None:
            axis.axvline(best[0], color="#d1495b", lw=1)
            late = best[0] ** 2 > float(
                part["size"].max()
            )  # behind the middle of a logarithmic axis
            said = f"{best[0]:,} edges " if late else f" {best[0]:,} edges"
            side = "right" if late else "left"
            axis.text(best[0], -0.16, said, color="#d1495b", fontsize=8, va="center", ha=side)
        axis.axhline(wanted, color="#d1495b", lw=0.8, ls=":")
        axis.set(
            xscale="log",
            xlabel="edges at tokens that are kept",
            ylabel="faithfulness",
            title=edit,
            ylim=(-0.25, 1.25),
        )
    axes[edits[0]].legend(loc="upper left")
    report.figure("smallest_circuit", figure)
