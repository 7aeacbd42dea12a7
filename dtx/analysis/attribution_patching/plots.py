"""Estimates against exact values, and their correlation by edit; a page that shows what each point is."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from plotly.subplots import make_subplots

from dtx.analysis.attribution_patching.spec import PARTS
from dtx.analysis.core.donor_plots import RESTORED
from dtx.analysis.core.patching_spec import EDIT
from dtx.analysis.core.plots import LINE, counted, headline, sentence, words
from dtx.analysis.core.result import Result
from dtx.dt.names import renamed
from dtx.figures import CLASS_COLOURS, GREY, MARKERS, PHONE, WHITE, new

LABELS = {
    "attribution_patching": "attribution patching",
    "integrated_inputs": "IG, input path",
    "integrated": "IG, activation path",
    "eap": "EAP",
    "eap_ig": "EAP-IG",
}
NOTHING = "Nothing to compare: every edit changes the logit difference by less than min_ld_gap"
SHOWN = 0.005
"""Points that restore less than this in both values are not on the page: there are thousands, all at 0."""


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
    """A panel a method, and its correlation by edit and reward-to-go; a sentence if nothing was compared."""
    parts, agreement = _compared(result), result.tables["agreement"]
    if not parts:
        return sentence(NOTHING)
    methods = [(part, method) for part in parts for method in PARTS[part]]
    rows = [[method for _, method in methods[i : i + 2]] for i in range(0, len(methods), 2)]
    rows[-1] += ["."] * (2 - len(rows[-1]))
    edits = list(dict.fromkeys(parts["nodes"]["edit"]))
    whole = agreement[(agreement["group"] == "all") & agreement["r"].notna()]
    lines = [len(whole[whole["method"] == method]) + 1 for _, method in methods]
    heights = [2.0] * len(rows) + [0.5 + 0.115 * sum(lines)]
    figure, axes = new(PHONE, sum(heights) + 0.5, mosaic=[*rows, ["r", "r"]], height_ratios=heights)
    for part, table in parts.items():
        # One scale for all panels of a part; estimates far outside are set on its rim.
        limit = 1.15 * max(1.0, float(table["exact"].abs().quantile(0.9995)))
        for method in PARTS[part]:
            _points(axes[method], table, method, limit, edits)
            beyond = int((table[method].abs() > limit).sum())
            rim = f"\n({beyond} on the rim)" if beyond else ""
            axes[method].set_title(f"{part}: {LABELS[method]}{rim}", fontsize=8)
            axes[method].set_ylabel("estimate", fontsize=7.5)
            axes[method].set_xlabel("exact patching", fontsize=7.5)
    _intervals(axes["r"], whole, [m for _, m in methods], edits)
    figure.legend(
        handles=[_dot(i, words(edit)) for i, edit in enumerate(edits)],
        loc="outside lower center",
        ncols=min(4, len(edits)),
        handletextpad=0.1,
        columnspacing=1,
    )
    pairs = sum(len(table) for table in parts.values())
    note = (
        f"Points: {RESTORED} of a node or an edge in one pair ({pairs:,} values); bars: 95% interval, "
        f"{counted(whole['interval'])}; grey: control, estimates "
        "paired with exact values at random; IG: integrated gradients"
    )
    headline(figure, result, _finding(result, whole, [m for _, m in methods]), note)
    return figure


def _finding(result: Result, whole: pd.DataFrame, methods: list[str]) -> str:
    verdicts = {claim.id: claim.verdict.value for claim in result.claims}
    said = []
    for method in methods:
        r = whole.loc[whole["method"] == method, "r"]
        if len(r):
            verdict = verdicts.get(f"{method}_agrees", "")
            range_ = f"{r.min():.2f}" if len(r) == 1 else f"{r.min():.2f} to {r.max():.2f}"
            said.append(f"{LABELS[method]} {range_}{verdict and f' ({verdict})'}")
    return "Correlation with exact patching, over edits and RTG: " + ", ".join(said)


def _points(axis: Axes, table: pd.DataFrame, method: str, limit: float, edits: list[str]) -> None:
    axis.plot([-limit, limit], [-limit, limit], color=LINE, linewidth=0.7, zorder=1)
    for i, edit in enumerate(edits):
        rows = table[table["edit"] == edit]
        x, y = (rows[c].clip(-limit, limit) for c in ("exact", method))
        axis.scatter(x, y, s=7, alpha=0.5, linewidths=0, **_style(i), zorder=2)
    axis.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    axis.tick_params(labelsize=7.5)


def _style(index: int) -> dict[str, str]:
    """Colour and marker of an edit."""
    return {
        "color": CLASS_COLOURS[index % len(CLASS_COLOURS)],
        "marker": MARKERS[index % len(MARKERS)],
    }


def _dot(index: int, label: str) -> Line2D:
    return Line2D([], [], linestyle="", markersize=5, label=label, **_style(index))


def _intervals(axis: Axes, whole: pd.DataFrame, methods: list[str], edits: list[str]) -> None:
    """r of each method by edit and reward-to-go with its interval; grey: that of random pairings."""
    asked = sorted(whole["reward_to_go"].unique(), reverse=True)
    y, ticks = 0, []
    for method in methods:
        first = y
        for i, edit in enumerate(edits):
            rows = whole[(whole["method"] == method) & (whole["edit"] == edit)]
            for row in rows.sort_values("reward_to_go", ascending=False).to_dict("records"):
                style = _style(i)
                axis.plot(
                    [row["random_low"], row["random_high"]], [y, y], color=GREY, lw=2.5, alpha=0.6
                )
                axis.plot([row["low"], row["high"]], [y, y], color=style["color"], lw=1)
                filled = style["color"] if row["reward_to_go"] == asked[0] else WHITE
                axis.plot(row["r"], y, markersize=4, markerfacecolor=filled, **style)
                y += 1
        ticks.append((first + y - 1) / 2)
        y += 1
    axis.set_yticks(ticks, [LABELS[m].replace(" ", "\n", 1) for m in methods], fontsize=7.5)
    axis.set_ylim(y - 1, -1)
    axis.tick_params(axis="x", labelsize=7.5)
    axis.set_title("agreement by edit and RTG", fontsize=8)
    hollow = f"; hollow: RTG below {asked[0]:g}" if len(asked) > 1 else ""
    axis.set_xlabel(f"Pearson's r over nodes or edges{hollow}", fontsize=7.5)


def page(result: Result) -> go.Figure:
    """Means over the pairs of an edit and reward-to-go, as points that show what they are."""
    parts = _compared(result)
    if not parts:
        return go.Figure(layout={"title": NOTHING, "template": "plotly_white"})
    panels = [(part, method) for part in parts for method in PARTS[part]]
    titles = [f"{part}: " + LABELS[m] for part, m in panels]
    figure = make_subplots(len(panels) // 3 + (len(panels) % 3 > 0), 3, subplot_titles=titles)
    shown: set[str] = set()
    edits = list(dict.fromkeys(parts["nodes"]["edit"]))
    for index, (part, method) in enumerate(panels):
        table = parts[part]
        where = ["name", "token"] if part == "nodes" else ["sender", "receiver", "input", "token"]
        by = ["edit", "reward_to_go", *where]
        means = table.groupby(by, sort=False)[["exact", method]].mean().reset_index()
        means = means[(means[["exact", method]].abs() >= SHOWN).any(axis=1)]
        for edit, rows in means.groupby("edit", sort=False):
            name = str(edit)
            colour = _style(edits.index(edit))["color"]
            text = [_what(row, part) for row in rows.to_dict("records")]
            figure.add_trace(
                go.Scatter(
                    x=rows["exact"].round(4), y=rows[method].round(4), text=text, mode="markers",
                    marker={"color": colour, "size": 6, "opacity": 0.6}, name=words(name),
                    legendgroup=name, showlegend=name not in shown,
                    hovertemplate="%{text}<br>exact %{x:.3f}, estimated %{y:.3f}<extra></extra>",
                ),
                row=index // 3 + 1, col=index % 3 + 1,
            )  # fmt: skip
            shown.add(name)
    figure.update_xaxes(title_text=f"exact patching: {RESTORED}", range=[-1.3, 1.3])
    figure.update_yaxes(title_text="estimate of it", range=[-1.3, 1.3])
    figure.update_layout(
        template="plotly_white",
        title="Estimated against exact patches: means over the pairs of an edit and RTG",
        height=420 * (len(panels) // 3 + (len(panels) % 3 > 0)) + 100,
    )
    return figure


def _what(row: dict, part: str) -> str:
    about = f"RTG {row['reward_to_go']:g}"
    if part == "nodes":
        return renamed(f"{row['name']} at {row['token']}, {about}")
    return renamed(
        f"{row['sender']} > {row['receiver']} ({row['input']}) at {row['token']}, {about}"
    )
