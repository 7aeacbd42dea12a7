"""What ablations do to the logit difference: nodes by reward-to-go, a panel a method, with what is random."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from dtx.analysis.ablation import Ablation
from dtx.analysis.ablation.compute import ALL, Results
from dtx.analysis.ablation.nodes import NEURON
from dtx.figures import new
from dtx.report import Report

NEEDED, OTHER, BAND = "#d1803a", "#8d99ae", "#e6e8ee"


def draw(report: Report, results: Results, stage: Ablation) -> None:
    """Heads and outputs in one figure; neurons, if any, in another."""
    is_neuron = results.ranking.kind == NEURON
    names = list(dict.fromkeys(results.effects[results.effects.kind != NEURON]["name"]))
    _heatmap(report, "ablation", names, results, stage)
    if is_neuron.any():
        strong = results.ranking[is_neuron].groupby("method", sort=False).head(stage.shown)
        names = sorted(set(strong["name"]), key=_place)
        _heatmap(report, "ablation_neurons", names, results, stage)


def _place(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", name))


def _heatmap(
    report: Report, figure_name: str, names: list[str], results: Results, stage: Ablation
) -> None:
    methods = [method.value for method in stage.methods]
    effects = results.effects[results.effects["name"].isin(names)]
    targets = [t for t in effects.target.unique() if t != ALL] or [ALL]
    figure, axes = new(
        7.0,
        1.9 + 0.16 * len(names),
        mosaic=[[*methods, "bars"]],
        width_ratios=[*[1.0] * len(methods), 1.5],
    )
    limit = float(effects.change.abs().max()) or 1.0
    image = None
    for method in methods:
        mine = effects[effects.method == method].pivot(
            index="name", columns="target", values="change"
        )
        grid = mine.loc[names, targets].to_numpy()
        image = _panel(axes[method], grid, method, targets, limit)
        axes[method].set_yticks(range(len(names)), names if method == methods[0] else [])
        axes[method].tick_params(axis="y", labelsize=7)
        _lines(axes[method], names)
    _bars(axes["bars"], results.ranking, names, methods[0])
    bar = figure.colorbar(
        image, ax=[axes[m] for m in methods], location="bottom", shrink=0.8, pad=0.02, aspect=35
    )
    bar.set_label("change of the logit difference (negative: away from the choice)", fontsize=8)
    title = f"Ablation at {'the last state' if stage.tokens.value == 'last' else 'all tokens'}: "
    title += f"logit {stage.contrast}"
    if stage.silent:
        title += f", {' and '.join(stage.silent)} silent"
    figure.suptitle(title, fontsize=10, fontweight="bold", x=0.02, ha="left")
    report.figure(figure_name, figure)


def _panel(axis, grid: np.ndarray, method: str, targets: list[str], limit: float):
    image = axis.imshow(grid, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    axis.grid(False)
    axis.set_title(method)
    labels = ["all windows" if t == ALL else f"RTG {t}" for t in targets]
    axis.set_xticks(range(len(targets)), labels, fontsize=7, rotation=90 if len(labels) > 2 else 0)
    for (i, j), value in np.ndenumerate(grid):
        if abs(value) >= 0.02 * limit and grid.shape[1] <= 4:
            colour = "white" if abs(value) > 0.6 * limit else "#333"
            axis.text(
                j, i, _number(value, limit), ha="center", va="center", fontsize=6, color=colour
            )
    return image


def _number(value: float, limit: float) -> str:
    return f"{value:+.0f}" if limit >= 20 else f"{value:+.1f}" if limit >= 2 else f"{value:+.2f}"


def _lines(axis, names: list[str]) -> None:
    """Between layers; a name's first number is its layer."""
    layer = [re.findall(r"\d+", name)[0] for name in names]
    for i in range(1, len(names)):
        if layer[i] != layer[i - 1]:
            axis.axhline(i - 0.5, color="#333", linewidth=0.7)


def _bars(axis, ranking: pd.DataFrame, names: list[str], method: str) -> None:
    mine = ranking[ranking.method == method].set_index("name").loc[names]
    y = np.arange(len(names))
    error = np.stack([mine.change - mine.low, mine.high - mine.change]).clip(min=0)
    # What random directions bring, to both sides, behind the node's own bar.
    random = mine.random_95.fillna(0)
    axis.barh(y, 2 * random, left=-random, height=0.9, color=BAND)
    colours = np.where(mine.needed, NEEDED, OTHER)
    axis.barh(y, mine.change, height=0.55, color=colours, xerr=error, error_kw={"lw": 0.7})
    axis.axvline(0, color="#333", lw=0.7)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_yticks([])
    axis.set_title(f"{method}: all RTG")
    axis.tick_params(axis="x", labelsize=7)
    axis.set_xlabel("orange: needed. grey band: 95% of\nrandom directions as far away", fontsize=7)
    _lines(axis, names)
