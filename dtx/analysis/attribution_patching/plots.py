"""Estimates against exact values, and r by edit; a page where each point tells what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dtx.analysis.attribution_patching import EDGE_METHODS, NODE_METHODS
from dtx.report import Report

if TYPE_CHECKING:
    from dtx.analysis.attribution_patching.compute import Found

COLOURS = ("#3a6ea5", "#d1803a", "#2a9d5c", "#8d5fa8", "#d1495b", "#8d99ae")
LABELS = {
    "attribution_patching": "attribution\npatching",
    "integrated_inputs": "integrated\nover inputs",
    "integrated": "integrated\nover itself",
    "eap": "EAP",
    "eap_ig": "EAP-IG",
}
SHOWN = 0.005
"""Points under this rho in both values are left out of the page: there are thousands, all at 0."""


def draw(report: Report, found: Found) -> None:
    """``attribution_patching.png`` and ``.html``."""
    parts = {}
    for part in ("nodes", "edges"):
        table = found.tables.get(part)
        if table is not None and len(table):
            known = (table["kind"] == "edit") & table["open"] & table["exact"].notna()
            if bool(known.to_numpy().any()):
                parts[part] = table[known]
    if not parts:
        return
    _png(report, parts, found.tables["agreement"])
    _page(report, parts)


def _png(report: Report, parts: dict[str, pd.DataFrame], agreement: pd.DataFrame) -> None:
    from dtx import figures

    rows = [list(NODE_METHODS), [*EDGE_METHODS, "r"]] if "edges" in parts else [list(NODE_METHODS)]
    figure, axes = figures.new(7.0, 2.7 * len(rows), mosaic=rows)
    edits = list(dict.fromkeys(parts["nodes"]["edit"]))
    colours = dict(zip(edits, COLOURS * len(edits), strict=False))
    pooled = agreement[(agreement["edit"] == "all") & (agreement["group"] == "all")]
    pooled = pooled.set_index("method")
    for part, methods in (("nodes", NODE_METHODS), ("edges", EDGE_METHODS)):
        if part not in parts:
            continue
        table = parts[part]
        # One scale for all panels of a row; estimates far outside are set on its rim.
        limit = 1.15 * max(1.0, float(table["exact"].abs().quantile(0.9995)))
        for method in methods:
            axis = axes[method]
            axis.plot([-limit, limit], [-limit, limit], color="#333", linewidth=0.7, zorder=1)
            for edit, mine in table.groupby("edit", sort=False):
                x, y = (mine[c].clip(-limit, limit) for c in ("exact", method))
                axis.scatter(x, y, s=5, alpha=0.45, linewidths=0, color=colours[edit], zorder=2)
            beyond = int((table[method].abs() > limit).sum())
            r = pooled.loc[method, "r"]
            said = f"r = {r:.2f}" + (f"\n{beyond} on the rim" if beyond else "")
            axis.text(0.04, 0.96, said, transform=axis.transAxes, va="top", fontsize=8)
            axis.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
            axis.set_title(f"{part}: " + LABELS[method].replace("\n", " "), fontsize=7)
            axis.tick_params(labelsize=7)
            axis.set_xlabel("exact rho", fontsize=8)
        axes[next(iter(methods))].set_ylabel("estimated rho", fontsize=8)
    if "r" in axes:
        _intervals(axes["r"], agreement, colours)
    handles = [_dot(colours[edit], edit.replace("_", " ")) for edit in edits]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)))
    report.figure("attribution_patching", figure)


def _dot(colour: str, label: str):
    from matplotlib.lines import Line2D

    return Line2D([], [], marker="o", linestyle="", markersize=5, color=colour, label=label)


def _intervals(axis, agreement: pd.DataFrame, colours: dict[str, str]) -> None:
    """r of each method and edit with its interval; grey: what random pairings give."""
    mine = agreement[(agreement["group"] == "all") & (agreement["edit"] != "all")]
    methods = [m for m in LABELS if m in set(mine["method"])]
    step = 0.7 / max(1, len(colours) - 1)
    for place, method in enumerate(methods):
        for i, (edit, colour) in enumerate(colours.items()):
            row = mine[(mine["method"] == method) & (mine["edit"] == edit)]
            if not len(row) or not np.isfinite(row["r"].iloc[0]):
                continue
            first, y = row.iloc[0], place - 0.35 + i * step
            axis.plot([first["random_low"], first["random_high"]], [y, y], color="#c4c9d4", lw=2)
            axis.plot([first["low"], first["high"]], [y, y], color=colour, lw=1)
            axis.plot(first["r"], y, "o", color=colour, markersize=3)
    axis.set_yticks(range(len(methods)), [LABELS[m] for m in methods], fontsize=6)
    axis.set_ylim(len(methods) - 0.4, -0.6)
    axis.set_title("r by edit (grey: at random)", fontsize=8)
    axis.tick_params(axis="x", labelsize=7)
    axis.set_xlabel("Pearson's r, 95% interval", fontsize=8)


def _page(report: Report, parts: dict[str, pd.DataFrame]) -> None:
    """Means over the pairs of an edit and reward-to-go, as points that can be pointed at."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    panels = [(p, m) for p, ms in (("nodes", NODE_METHODS), ("edges", EDGE_METHODS)) for m in ms]
    panels = [(part, method) for part, method in panels if part in parts]
    titles = [f"{part}: " + LABELS[m].replace("\n", " ") for part, m in panels]
    figure = make_subplots(len(panels) // 3 + (len(panels) % 3 > 0), 3, subplot_titles=titles)
    shown: set[str] = set()
    colours: dict[str, str] = {}
    for index, (part, method) in enumerate(panels):
        table = parts[part]
        where = ["name", "token"] if part == "nodes" else ["sender", "receiver", "input", "token"]
        by = ["edit", "reward_to_go", *where]
        means = table.groupby(by, sort=False)[["exact", method]].mean().reset_index()
        means = means[(means[["exact", method]].abs() >= SHOWN).any(axis=1)]
        for edit, mine in means.groupby("edit", sort=False):
            name = str(edit)
            colour = colours.setdefault(name, COLOURS[len(colours) % len(COLOURS)])
            text = [_what(row, part) for row in mine.to_dict("records")]
            figure.add_trace(
                go.Scatter(
                    x=mine["exact"].round(4), y=mine[method].round(4), text=text, mode="markers",
                    marker={"color": colour, "size": 6, "opacity": 0.6}, name=name.replace("_", " "),
                    legendgroup=name, showlegend=name not in shown,
                    hovertemplate="%{text}<br>exact %{x:.3f}, estimated %{y:.3f}<extra></extra>",
                ),
                row=index // 3 + 1, col=index % 3 + 1,
            )  # fmt: skip
            shown.add(name)
    figure.update_xaxes(title_text="exact rho", range=[-1.3, 1.3])
    figure.update_yaxes(title_text="estimated rho", range=[-1.3, 1.3])
    figure.update_layout(
        template="plotly_white",
        title="Estimated against exact patches: means over the pairs of an edit and reward-to-go",
        height=420 * (len(panels) // 3 + (len(panels) % 3 > 0)) + 100,
    )
    report.page("attribution_patching", figure)


def _what(row: dict, part: str) -> str:
    about = f"reward-to-go {row['reward_to_go']:g}"
    if part == "nodes":
        return f"{row['name']} at {row['token']}, {about}"
    return f"{row['sender']} to {row['receiver']} ({row['input']}) at {row['token']}, {about}"
