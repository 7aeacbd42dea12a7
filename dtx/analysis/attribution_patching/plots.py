"""Estimates against exact values, and r by edit; a page that shows what each point is."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from plotly.subplots import make_subplots

from dtx.analysis.attribution_patching.spec import EDGE_METHODS, NODE_METHODS, PARTS
from dtx.analysis.core.patching_spec import EDIT
from dtx.analysis.core.plots import sentence
from dtx.analysis.core.result import Result
from dtx.figures import new

COLOURS = ("#3a6ea5", "#d1803a", "#2a9d5c", "#8d5fa8", "#d1495b", "#8d99ae")
LABELS = {
    "attribution_patching": "attribution\npatching",
    "integrated_inputs": "IG,\ninput path",
    "integrated": "IG,\nactivation path",
    "eap": "EAP",
    "eap_ig": "EAP-IG",
}
NOTHING = "nothing to compare: the two runs of no pair differ enough (min_ld_gap)"
SHOWN = 0.005
"""Points under this rho in both values are left out of the page: there are thousands, all at 0."""


def _compared(result: Result) -> dict[str, pd.DataFrame]:
    """Nodes and edges with an exact value, by part; a part without any is left out."""
    parts = {}
    for part in PARTS:
        table = result.tables.get(part)
        if table is not None and len(table):
            known = (table["kind"] == EDIT) & table["open"] & table["exact"].notna()
            if bool(known.to_numpy().any()):
                parts[part] = table[known]
    return parts


def draw(result: Result) -> Figure:
    """A panel a method, and r of each by edit; a sentence if nothing could be compared."""
    parts, agreement = _compared(result), result.tables["agreement"]
    if not parts:
        return sentence(NOTHING)
    rows = [list(NODE_METHODS), [*EDGE_METHODS, "r"]] if "edges" in parts else [list(NODE_METHODS)]
    figure, axes = new(7.0, 2.7 * len(rows), mosaic=rows)
    edits = list(dict.fromkeys(parts["nodes"]["edit"]))
    colours = dict(zip(edits, COLOURS * len(edits), strict=False))
    whole = agreement[(agreement["group"] == "all") & agreement["r"].notna()]
    least, most = (whole.groupby("method")["r"].agg(name).to_dict() for name in ("min", "max"))
    for part, table in parts.items():
        # One scale for all panels of a row; estimates far outside are set on its rim.
        limit = 1.15 * max(1.0, float(table["exact"].abs().quantile(0.9995)))
        for method in PARTS[part]:
            _points(axes[method], table, method, limit, colours)
            beyond = int((table[method].abs() > limit).sum())
            text = f"r {least[method]:.2f} to {most[method]:.2f}" if method in least else ""
            text += f"\n{beyond} on the rim" if beyond else ""
            axes[method].text(
                0.04, 0.96, text, transform=axes[method].transAxes, va="top", fontsize=8
            )
            title = f"{part}: " + LABELS[method].replace("\n", " ")
            axes[method].set_title(title, fontsize=7)
        axes[next(iter(PARTS[part]))].set_ylabel("estimated rho", fontsize=8)
    if "r" in axes:
        _intervals(axes["r"], agreement, colours)
    handles = [_dot(colours[edit], edit.replace("_", " ")) for edit in edits]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)))
    return figure


def _points(
    axis: Axes, table: pd.DataFrame, method: str, limit: float, colours: dict[str, str]
) -> None:
    axis.plot([-limit, limit], [-limit, limit], color="#333", linewidth=0.7, zorder=1)
    for edit, rows in table.groupby("edit", sort=False):
        x, y = (rows[c].clip(-limit, limit) for c in ("exact", method))
        axis.scatter(x, y, s=5, alpha=0.45, linewidths=0, color=colours[str(edit)], zorder=2)
    axis.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    axis.tick_params(labelsize=7)
    axis.set_xlabel("exact rho", fontsize=8)


def _dot(colour: str, label: str) -> Line2D:
    return Line2D([], [], marker="o", linestyle="", markersize=5, color=colour, label=label)


def _intervals(axis: Axes, agreement: pd.DataFrame, colours: dict[str, str]) -> None:
    """r of each method by edit and reward-to-go with its interval; grey: that of random pairings."""
    whole = agreement[(agreement["group"] == "all") & agreement["r"].notna()]
    methods = [m for m in LABELS if m in set(whole["method"])]
    asked = sorted(whole["reward_to_go"].unique(), reverse=True)
    lines = [(edit, target) for edit in colours for target in asked]
    step = 0.7 / max(1, len(lines) - 1)
    for place, method in enumerate(methods):
        for i, (edit, target) in enumerate(lines):
            row = whole[(whole["method"] == method) & (whole["edit"] == edit)]
            row = row[row["reward_to_go"] == target]
            if not len(row):
                continue
            first, y = row.iloc[0], place - 0.35 + i * step
            axis.plot([first["random_low"], first["random_high"]], [y, y], color="#c4c9d4", lw=2)
            axis.plot([first["low"], first["high"]], [y, y], color=colours[edit], lw=1)
            filled = colours[edit] if target == asked[0] else "white"
            axis.plot(first["r"], y, "o", color=colours[edit], markersize=3, markerfacecolor=filled)
    axis.set_yticks(range(len(methods)), [LABELS[m] for m in methods], fontsize=6)
    axis.set_ylim(len(methods) - 0.4, -0.6)
    axis.set_title("r by edit (grey: random pairings)", fontsize=8)
    axis.tick_params(axis="x", labelsize=7)
    hollow = f"; hollow: below {asked[0]:g}" if len(asked) > 1 else ""
    axis.set_xlabel(f"Pearson's r, 95% interval over layouts{hollow}", fontsize=6.5)


def page(result: Result) -> go.Figure:
    """Means over the pairs of an edit and reward-to-go, as points that show what they are."""
    parts = _compared(result)
    if not parts:
        return go.Figure(layout={"title": NOTHING, "template": "plotly_white"})
    panels = [(part, method) for part in parts for method in PARTS[part]]
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
        for edit, rows in means.groupby("edit", sort=False):
            name = str(edit)
            colour = colours.setdefault(name, COLOURS[len(colours) % len(COLOURS)])
            text = [_what(row, part) for row in rows.to_dict("records")]
            figure.add_trace(
                go.Scatter(
                    x=rows["exact"].round(4), y=rows[method].round(4), text=text, mode="markers",
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
    return figure


def _what(row: dict, part: str) -> str:
    about = f"reward-to-go {row['reward_to_go']:g}"
    if part == "nodes":
        return f"{row['name']} at {row['token']}, {about}"
    return f"{row['sender']} to {row['receiver']} ({row['input']}) at {row['token']}, {about}"
