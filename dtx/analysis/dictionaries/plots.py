"""The figure of a hook: what is kept over how many features are on, beside every control."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from dtx.analysis.core.notes import controls
from dtx.analysis.core.plots import headline
from dtx.analysis.core.result import Result
from dtx.analysis.dictionaries.spec import (
    EXPLAINED,
    FROZEN,
    HOWS,
    KEPT,
    LARGEST,
    PCA,
    RANDOM,
    RECOVERED,
    TRAINED,
    UNTRAINED,
    DictionariesSpec,
)
from dtx.dictionary.spec import How
from dtx.figures import BLACK, BLUE, GREEN, GREY, ORANGE, PHONE, PURPLE, SKY, SOFT, VERMILION, new

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as PlotlyFigure

STYLES: dict[str, dict[str, Any]] = {
    TRAINED: {"color": BLUE, "marker": "o", "ls": "-", "lw": 2, "ms": 5, "zorder": 6},
    HOWS[How.soft_frozen_decoder]: {
        "color": SKY,
        "marker": "p",
        "ls": "--",
        "lw": 1.2,
        "ms": 8,
        "mfc": "none",
        "zorder": 7,
    },
    HOWS[How.frozen_encoder]: {
        "color": PURPLE,
        "marker": "h",
        "ls": "--",
        "lw": 1.2,
        "ms": 11,
        "mfc": "none",
        "zorder": 7,
    },
    HOWS[How.frozen_decoder]: {"color": ORANGE, "marker": "s", "ls": "--", "lw": 1.2, "ms": 4},
    UNTRAINED: {"color": GREY, "marker": "v", "ls": "-", "lw": 1.5, "ms": 5},
    PCA: {"color": GREEN, "marker": "D", "ls": "-.", "lw": 1.4, "ms": 4},
    LARGEST: {"color": BLACK, "marker": "^", "ls": ":", "lw": 1.2, "ms": 4},
    RANDOM: {"color": VERMILION, "marker": "X", "ls": ":", "lw": 1.2, "ms": 5},
}
"""Of each kind: colour never stands alone."""
_SYMBOLS = {
    "o": "circle",
    "p": "pentagon",
    "h": "hexagon",
    "s": "square",
    "v": "triangle-down",
    "D": "diamond",
    "^": "triangle-up",
    "X": "x",
}
_DASHES = {"-": "solid", "--": "dash", "-.": "dashdot", ":": "dot"}
"""Plotly's names of matplotlib's markers and lines."""
_FILLS = ("full", "none", "left", "right", "top", "bottom")
"""Fill styles of markers by width, where there are several."""


def hooks_of(result: Result) -> list[str]:
    """The hooks that are judged, in their order."""
    return list(dict.fromkeys(result.tables["dictionaries"]["hook"]))


def draw(result: Result, spec: DictionariesSpec, hook: str) -> Figure:
    """Return kept at each target, KL recovered and explained variance over L0, and densities.

    Args:
        result: Of the analysis.
        spec: Its targets, and the share that counts as kept.
        hook: Whose dictionaries.
    """
    groups = result.tables["groups"]
    groups = groups[groups["hook"] == hook]
    targets = sorted(set(spec.targets), reverse=True)
    names = [f"kept {target:g}" for target in targets]
    panels = [*names, RECOVERED, EXPLAINED, "density"]
    heights = [2.3] * len(names) + [2.0, 2.0, 2.6]
    figure, axes = new(PHONE, sum(heights), mosaic=[[p] for p in panels], height_ratios=heights)
    for name, target in zip(names, targets, strict=True):
        rows = groups[(groups["measure"] == KEPT) & (groups["target"] == target)]
        _over_l0(axes[name], rows, f"return kept at RTG {target:g}")
        if rows["value"].notna().to_numpy().any():
            axes[name].axhline(spec.kept, color=SOFT, lw=0.8, ls="--")
            axes[name].annotate(
                f"{spec.kept:.0%}", (1, spec.kept), xycoords=("axes fraction", "data"),
                va="bottom", ha="right", fontsize=7.5, color=SOFT,
            )  # fmt: skip
    for measure in (RECOVERED, EXPLAINED):
        rows = groups[groups["measure"] == measure]
        words = "KL recovered" if measure == RECOVERED else "explained variance"
        _over_l0(axes[measure], rows, f"{words} (mean: 0)")
    _densities(axes["density"], result.tables["density"], hook)
    by_name = {
        name: handle
        for panel in [*names, EXPLAINED]
        for handle, name in zip(*axes[panel].get_legend_handles_labels(), strict=True)
    }
    axes[EXPLAINED].legend(
        by_name.values(),
        by_name.keys(),
        loc="upper center",
        bbox_to_anchor=(0.45, -0.28),
        ncols=2,
        fontsize=7.5,
        handlelength=3,
    )
    headline(figure, result, title(result, spec, hook), note(result, hook))
    return figure


def title(result: Result, spec: DictionariesSpec, hook: str) -> str:
    """The smallest numbers of features that keep the return."""
    table = result.tables["smallest"]
    table = table[table["hook"] == hook]
    trained = table[table["kind"] == TRAINED]["l0"].min() if len(table) else np.nan
    share = f"{spec.kept:.0%} of the return at RTG {spec.high:g}"
    if not len(table) or np.isnan(trained):
        first = f"No trained dictionary is known to keep {share}"
    else:
        first = f"{trained:.3g} trained features a token keep at least {share}"
    others = {
        kind: table[table["kind"] == kind]["l0"].min() if len(table) else np.nan
        for kind in (
            HOWS[How.frozen_encoder],
            HOWS[How.soft_frozen_decoder],
            FROZEN,
            PCA,
            LARGEST,
            RANDOM,
        )
    }
    words = [
        f"{kind} {'none of those tried' if np.isnan(l0) else format(l0, '.3g')}"
        for kind, l0 in others.items()
    ]
    return f"{first}; controls need: {', '.join(words)} ({hook})"


def note(result: Result, hook: str) -> str:
    """How many dictionaries and episodes there are, and the control."""
    groups = result.tables["groups"]
    own = groups[(groups["hook"] == hook) & (groups["kind"] == TRAINED)]
    seeds = int(own["seeds"].max())
    kinds = own[(own["measure"] == KEPT) & own["value"].notna()]["interval"]
    bars = f"; bars: 95% intervals, {kinds.iloc[0]}" if len(kinds) else ""
    return f"trained: {seeds} seed{'s' if seeds > 1 else ''}{bars}; {controls(result)}"


def _over_l0(axis: Axes, rows: pd.DataFrame, label: str) -> None:
    """One line a kind and width, with the intervals of its points."""
    shown, most = [], 1.0
    for kind, style in STYLES.items():
        part = rows[(rows["kind"] == kind) & rows["value"].notna()]
        # As many features as dimensions that are kept: one curve, whatever the width.
        width = part["width"].where(part["kind"] != PCA, 0)
        for place, (size, line) in enumerate(part.groupby(width, sort=True)):
            line = line.sort_values("l0")
            several = len(np.unique(width.to_numpy())) > 1
            name = f"{kind}, {size:,} features" if several else kind
            fill = {"fillstyle": _FILLS[place % len(_FILLS)]} if several else {}
            error = np.stack([line["value"] - line["low"], line["high"] - line["value"]])
            error = np.nan_to_num(error).clip(min=0)
            axis.errorbar(
                line["l0"], line["value"], yerr=error, elinewidth=0.9, label=name, **style, **fill
            )
            shown += line["value"].tolist()
            most = max(most, line["l0"].max())
    axis.axhline(0, color=SOFT, lw=0.8)
    if not shown:
        axis.text(
            0.5, 0.5, "return with and without mean ablation\nis too near: no share of it is measured",
            transform=axis.transAxes, ha="center", va="center", fontsize=8,
        )  # fmt: skip
    # Intervals of what is far off would hide all differences between those that are near 1.
    low, high = min([0.0, *shown]), max([1.0, *shown])
    axis.set(
        xlabel="features on at a token (L0)",
        ylabel=label,
        ylim=(max(low - 0.15, -1.2), min(high + 0.15, 2.0)),
    )
    axis.yaxis.label.set_size(8)
    axis.set_xscale("log", base=2)
    powers = 2.0 ** np.arange(0, np.ceil(np.log2(most)) + 1)
    axis.xaxis.set_major_locator(FixedLocator(list(powers)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_xlim(0.8, most * 1.4)


def _densities(axis: Axes, density: pd.DataFrame, hook: str) -> None:
    """How many features are on how often: trained ones of each sparsity, and untrained networks'."""
    density = density.loc[density["hook"] == hook]
    trained = density[density["kind"] == TRAINED]
    width = trained["width"].min()
    sparsities = sorted(trained["sparsity"].unique())
    lines = [(TRAINED, s, ls) for s, ls in zip(sparsities, ("-", "--", "-.", ":"), strict=False)]
    lines.append((UNTRAINED, sparsities[-1], "-"))
    for kind, sparsity, line in lines:
        part = density[(density["kind"] == kind) & (density["width"] == width)]
        part = part[part["sparsity"] == sparsity]
        if not len(part):
            continue
        # Dead features have a bin of their own at the left, half a decade wide as all others.
        bins = part.assign(end=part["to"].where(np.isfinite(part["to"]), -6.0))
        share = bins.groupby("end")["features"].sum() / part["features"].sum()
        axis.plot(
            share.index - 0.25, share, ls=line, marker=STYLES[kind]["marker"], ms=4,
            color=STYLES[kind]["color"], lw=1.4, label=f"{kind}, {sparsity:g} on",
        )  # fmt: skip
    ticks = [-6.25, -5, -4, -3, -2, -1, 0]
    axis.set_xticks(ticks, ["never", *(f"$10^{{{int(t)}}}$" for t in ticks[1:])])
    axis.set(
        xlabel="share of tokens at which a feature is on",
        ylabel="share of the features",
        title=f"Densities, {width:,} features",
        ylim=(0, None),
    )
    axis.legend(fontsize=7.5, loc="upper left")


def page(result: Result, spec: DictionariesSpec) -> PlotlyFigure:
    """What is kept over L0, with the numbers of a dictionary on hovering; each hook one column."""
    from plotly.subplots import make_subplots

    hooks = hooks_of(result)
    groups = result.tables["groups"]
    panels = [
        *((KEPT, t, f"return kept, RTG {t:g}") for t in sorted(set(spec.targets), reverse=True)),
        (RECOVERED, None, "KL recovered"),
        (EXPLAINED, None, "explained variance"),
    ]
    figure = make_subplots(
        rows=len(panels), cols=len(hooks), shared_xaxes=True, column_titles=hooks,
        vertical_spacing=0.04,
    )  # fmt: skip
    for row, (measure, target, label) in enumerate(panels, 1):
        for column, hook in enumerate(hooks, 1):
            rows = groups[(groups["hook"] == hook) & (groups["measure"] == measure)]
            if target is not None:
                rows = rows[rows["target"] == target]
            for trace in _traces(rows, row == 1 and column == 1):
                figure.add_trace(trace, row=row, col=column)
        figure.update_yaxes(title_text=label, row=row, col=1)
    for column in range(1, len(hooks) + 1):
        figure.update_xaxes(title_text="features on (L0)", row=len(panels), col=column)
    figure.update_xaxes(type="log")
    figure.update_layout(
        template="plotly_white",
        title=title(result, spec, hooks[0]),
        height=260 * len(panels) + 160,
        legend={"orientation": "h", "y": -0.08},
    )
    return figure


def _traces(rows: pd.DataFrame, named: bool) -> list[Any]:
    import plotly.graph_objects as go

    traces, seen = [], set()
    for kind, style in STYLES.items():
        part = rows[(rows["kind"] == kind) & rows["value"].notna()]
        width = part["width"].where(part["kind"] != PCA, 0)
        for size, line in part.groupby(width, sort=True):
            line = line.sort_values("l0")
            several = len(np.unique(width.to_numpy())) > 1
            traces.append(
                go.Scatter(
                    x=line["l0"],
                    y=line["value"],
                    mode="lines+markers",
                    name=f"{kind}, {size:,} features" if several else kind,
                    legendgroup=f"{kind} {size}" if several else kind,
                    showlegend=named and (kind, size) not in seen,
                    marker={"symbol": _SYMBOLS[style["marker"]], "size": 7},
                    line={"color": style["color"], "dash": _DASHES[style["ls"]]},
                    error_y={
                        "type": "data",
                        "symmetric": False,
                        "array": line["high"] - line["value"],
                        "arrayminus": line["value"] - line["low"],
                        "thickness": 1,
                    },
                    customdata=line[["width", "sparsity", "seeds", "interval", "low", "high"]],
                    hovertemplate=(
                        f"{kind}<br>L0 %{{x:.3g}}: %{{y:.3f}} [%{{customdata[4]:.3f}}, "
                        "%{customdata[5]:.3f}]<br>%{customdata[0]:,} features, set to "
                        "%{customdata[1]:g}; %{customdata[2]} of them<br>%{customdata[3]}"
                    ),
                )
            )
            seen.add((kind, size))
    return traces
