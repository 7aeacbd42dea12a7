"""What ablations do to the logit difference: the largest beside random ones, and a page of all."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtx.analysis.ablation.spec import ALL, AblatedTokens, AblationSpec
from dtx.analysis.core.plots import LINE, counted, headline, limit_of
from dtx.analysis.core.result import Result
from dtx.dt.names import NEURON, renamed
from dtx.figures import CLASS_COLOURS, FAINT, MARKERS, PHONE, SIGNED, WHITE, new

ROWS = 12
"""Nodes that a panel has room for: the page has all."""
PANELS = 3
"""Rewards-to-go that a figure has room for: those where most is decided."""


def draw(result: Result, spec: AblationSpec) -> Figure:
    """Heads and outputs."""
    return _figure(result, spec, _of_kind(result, neurons=False))


def draw_neurons(result: Result, spec: AblationSpec) -> Figure:
    """Neurons."""
    return _figure(result, spec, _of_kind(result, neurons=True))


def _of_kind(result: Result, neurons: bool) -> pd.DataFrame:
    ranking = result.tables["ranking"]
    return ranking[(ranking["kind"] == NEURON) == neurons]


def _figure(result: Result, spec: AblationSpec, ranking: pd.DataFrame) -> Figure:
    """A panel a reward-to-go: its largest changes by every method, beside what random directions do."""
    by_gap = ranking.groupby("target", sort=False)["gap"].first().sort_values(ascending=False)
    targets = [str(target) for target in by_gap.index[:PANELS]]
    names = {target: _largest(ranking[ranking["target"] == target], spec) for target in targets}
    heights = [0.75 + 0.24 * len(of) for of in names.values()]
    figure, axes = new(
        PHONE, sum(heights) + 0.5, mosaic=[[target] for target in targets], height_ratios=heights
    )
    handles: dict = {}
    for target in targets:
        rows = ranking[ranking["target"] == target]
        handles |= _panel(axes[target], rows, names[target], spec)
        gap = f"{by_gap[target]:.2f} logits decided"
        axes[target].set_title(f"{_asked(target)}: {gap}", fontsize=8.5)
        axes[target].set_xlabel(
            "change (logits); negative: away from the choice made", fontsize=7.5
        )
    figure.legend(handles.values(), handles.keys(), loc="outside lower left", ncols=2, fontsize=7.5)
    where = "the last state" if spec.tokens is AblatedTokens.last else "all tokens"
    silent = f"; {' and '.join(spec.silent)} held at 0" if spec.silent else ""
    total = ranking["name"].nunique()
    rest = f"the {ROWS} largest of {total} nodes" if total > ROWS else f"{total} nodes"
    note = (
        f"Change of the logit difference {spec.contrast} by ablating one node at a time, at "
        f"{where}{silent}; {rest}; filled: beyond random directions and other nodes (Holm); bars: 95%, {counted(ranking['interval'])}"
    )
    headline(figure, result, _finding(ranking, targets, spec), note)
    return figure


def _finding(ranking: pd.DataFrame, targets: list[str], spec: AblationSpec) -> str:
    method = spec.methods[0].value
    said = []
    for target in targets:
        rows = ranking[(ranking["target"] == target) & (ranking["method"] == method)]
        needed = rows[rows["needed"]].sort_values("change")
        first = ", ".join(
            f"{renamed(r.name)} {r.change:+.2f}" for r in needed.head(3).itertuples(False)
        )
        more = f" and {len(needed) - 3} more" if len(needed) > 3 else ""
        said.append(f"{_asked(target)}: {first or 'none beyond random ones'}{more}")
    return f"Needed by {method} ablation, of {ranking['name'].nunique()} nodes: " + "; ".join(said)


def _largest(rows: pd.DataFrame, spec: AblationSpec) -> list[str]:
    """Nodes of a panel: those with a verdict first, then the largest changes; in the order of size."""
    first = rows[rows["method"] == spec.methods[0].value]
    stands = (first["needed"] | first["hinders"]).to_numpy()
    order = np.lexsort([-first["change"].abs().to_numpy(), ~stands])
    kept = first.iloc[order[:ROWS]]
    return kept.iloc[np.argsort(-kept["change"].abs().to_numpy(), kind="stable")]["name"].tolist()


def _panel(axis: Axes, rows: pd.DataFrame, names: list[str], spec: AblationSpec) -> dict:
    """Handles of the legend by their words."""
    place = np.arange(len(names))
    methods = _methods(spec)
    table = {m: rows[rows["method"] == m].set_index("name").loc[names] for m in methods}
    random = table[methods[0]]["random_95"].fillna(0).to_numpy()
    band = axis.barh(place, 2 * random, left=-random, height=0.9, color=FAINT)
    handles: dict = {f"control: 95% of random\ndirections ({methods[0]})": band}
    for i, method in enumerate(methods):
        of = table[method]
        y = place + (i - (len(methods) - 1) / 2) * 0.26
        colour, marker = CLASS_COLOURS[i], MARKERS[i]
        axis.hlines(y, of["low"], of["high"], color=colour, lw=1)
        filled = (of["needed"] | of["hinders"]).to_numpy()
        for which, face in ((filled, colour), (~filled, WHITE)):
            axis.plot(
                of["change"][which], y[which], marker, ms=4.5, color=colour, markerfacecolor=face
            )
        handles[method] = axis.plot([], [], marker, color=colour, ms=4.5)[0]
    axis.axvline(0, color=LINE, lw=0.7)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_yticks(place, [renamed(name) for name in names], fontsize=7.5)
    axis.tick_params(axis="x", labelsize=7.5)
    return handles


def _asked(target: str) -> str:
    return "RTG as recorded" if target == ALL else f"RTG {target}"


def page(result: Result, spec: AblationSpec) -> go.Figure:
    """Every node by method and reward-to-go, with its interval, its control and its verdict."""
    effects = result.tables["effects"]
    said = effects.assign(said=[_said(row) for row in effects.to_dict("records")])
    tables = [
        said.pivot(index="name", columns=["target", "method"], values=value)
        .loc[effects["name"].unique()]
        .reindex(columns=pd.MultiIndex.from_product([effects["target"].unique(), _methods(spec)]))
        for value in ("change", "said")
    ]
    change, text = (table.to_numpy() for table in tables)
    columns, names = tables[0].columns, tables[0].index
    limit = limit_of(change)
    figure = go.Figure(
        go.Heatmap(
            z=change.astype(float).round(4),
            x=[f"{method}, {_asked(target)}" for target, method in columns],
            y=[renamed(name) for name in names],
            customdata=text,
            colorscale=SIGNED,
            zmin=-limit,
            zmax=limit,
            colorbar={"title": {"text": "change (logits)", "side": "right"}},
            hovertemplate="%{y}, %{x}: %{z:+.3f}<br>%{customdata}<extra></extra>",
        )
    )
    figure.update_layout(
        template="plotly_white",
        title=f"Ablation: change of the logit difference {spec.contrast}, by node",
        yaxis={"autorange": "reversed", "dtick": 1},
        height=max(420, 160 + 18 * len(names)),
    )
    return figure


def _methods(spec: AblationSpec) -> list[str]:
    return [method.value for method in spec.methods]


def _said(row: dict) -> str:
    verdict = (
        "needed" if row["needed"] else "hinders" if row["hinders"] else "not beyond random ones"
    )
    return (
        f"[{row['low']:+.3f}, {row['high']:+.3f}] ({row['interval']}); "
        f"95% of random directions: {row['random_95']:.3f}; {verdict}"
    )
