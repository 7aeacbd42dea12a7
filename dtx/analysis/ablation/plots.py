"""The figures: what ablations do to the logit difference: nodes by reward-to-go, beside random directions."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from dtx.analysis.ablation.spec import ALL, NEURON, AblatedTokens, AblationSpec
from dtx.analysis.core.plots import ACCENT, LINE, QUIET, bars, heatmap, limit_of, title
from dtx.analysis.core.result import Result
from dtx.figures import new

BAND = "#e6e8ee"


def draw(result: Result, spec: AblationSpec) -> Figure:
    """Heads and outputs."""
    effects = result.tables["effects"]
    return _figure(result, spec, effects[effects.kind != NEURON]["name"].unique().tolist())


def draw_neurons(result: Result, spec: AblationSpec) -> Figure:
    """The strongest neurons of each method."""
    ranking = result.tables["ranking"]
    neurons = ranking[ranking.kind == NEURON].groupby(["method", "target"], sort=False)
    return _figure(result, spec, sorted(set(neurons.head(spec.shown)["name"]), key=_place))


def _place(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", name))


def _figure(result: Result, spec: AblationSpec, names: list[str]) -> Figure:
    """One row a node: a panel a method, and bars of the first method, at the reward-to-go where most is
    decided, beside random directions."""
    effects, ranking = result.tables["effects"], result.tables["ranking"]
    methods = [method.value for method in spec.methods]
    effects = effects[effects["name"].isin(names)]
    targets = effects.target.unique().tolist()
    figure, axes = new(
        7.0,
        1.9 + 0.16 * len(names),
        mosaic=[[*methods, "bars"]],
        width_ratios=[*[1.0] * len(methods), 1.5],
    )
    limit = limit_of(effects.change)
    image = None
    for method in methods:
        rows = effects[effects.method == method]
        grid = rows.pivot(index="name", columns="target", values="change").loc[names, targets]
        image = _panel(axes[method], grid, method, limit)
        if method != methods[0]:
            axes[method].set_yticks(range(len(names)), [])
        _lines(axes[method], names)
    most = effects.loc[effects.gap.idxmax(), "target"]
    _bars(axes["bars"], ranking, names, methods[0], most)
    bar = figure.colorbar(
        image, ax=[axes[m] for m in methods], location="bottom", shrink=0.8, pad=0.02, aspect=35
    )
    bar.set_label("change of the logit difference (negative: away from the choice)", fontsize=8)
    where = "the last state" if spec.tokens is AblatedTokens.last else "all tokens"
    silent = f", {' and '.join(spec.silent)} silent" if spec.silent else ""
    title(figure, f"Ablation at {where}: logit {spec.contrast}{silent}")
    return figure


def _panel(axis: Axes, grid: pd.DataFrame, method: str, limit: float) -> AxesImage:
    targets = ["as recorded" if t == ALL else f"RTG {t}" for t in grid.columns]
    rotation = 90 if len(targets) > 2 else 0
    image = heatmap(
        axis, grid, grid.index.tolist(), targets, limit=limit, cmap="RdBu", rotation=rotation
    )
    axis.set_title(method)
    for (i, j), value in np.ndenumerate(grid.to_numpy()):
        if abs(value) >= 0.02 * limit and grid.shape[1] <= 4:
            colour = "white" if abs(value) > 0.6 * limit else LINE
            axis.text(
                j, i, _number(value, limit), ha="center", va="center", fontsize=6, color=colour
            )
    return image


def _number(value: float, limit: float) -> str:
    return f"{value:+.0f}" if limit >= 20 else f"{value:+.1f}" if limit >= 2 else f"{value:+.2f}"


def _lines(axis: Axes, names: list[str]) -> None:
    """Between layers; a name's first number is its layer."""
    layer = [re.findall(r"\d+", name)[0] for name in names]
    for i in range(1, len(names)):
        if layer[i] != layer[i - 1]:
            axis.axhline(i - 0.5, color=LINE, linewidth=0.7)


def _bars(axis: Axes, ranking: pd.DataFrame, names: list[str], method: str, target: str) -> None:
    rows = ranking[(ranking.method == method) & (ranking.target == target)]
    rows = rows.set_index("name").loc[names]
    place = np.arange(len(names))
    # What random directions bring, to both sides, behind the node's own bar.
    random = rows.random_95.fillna(0)
    axis.barh(place, 2 * random, left=-random, height=0.9, color=BAND)
    colours = np.where(rows.needed | rows.hinders, ACCENT, QUIET)
    bars(axis, place, rows.change, rows.low, rows.high, height=0.55, color=colours)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_yticks([])
    axis.set_title(f"{method}: {'as recorded' if target == ALL else f'RTG {target}'}")
    axis.tick_params(axis="x", labelsize=7)
    axis.set_xlabel(
        "orange: needed (left) or hinders (right)\ngrey band: 95% of random directions", fontsize=7
    )
    _lines(axis, names)
