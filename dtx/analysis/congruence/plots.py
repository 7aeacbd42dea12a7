"""Congruence as strips of neurons by layer, and its size over training."""

from __future__ import annotations

import numpy as np

from dtx.analysis.congruence import Congruence
from dtx.analysis.congruence.compute import TRAINED, UNTRAINED, Results
from dtx.figures import new
from dtx.report import Report

COLOURS = {TRAINED: "#3a6ea5", UNTRAINED: "#b9bfcc"}
LAYER_COLOURS = ("#d1803a", "#3a6ea5", "#2a9d5c", "#7a3e12", "#173753", "#8d5a97")
WIDTH = 7.0


def draw(report: Report, results: Results, stage: Congruence) -> None:
    """One column an action: strips above, the mean over training below."""
    names = [action.value for action in stage.actions]
    trained_steps = results.growth.step.notna().any()
    mosaic = [[f"strip {n}" for n in names]]
    if trained_steps:
        mosaic.append([f"curve {n}" for n in names])
    figure, axes = new(WIDTH, 5.6 if trained_steps else 3.2, mosaic=mosaic)
    rng = np.random.default_rng(stage.seed)
    folded = results.table[results.table.weights == "folded"]
    limit = 1.05 * float(folded.congruence.abs().max() or 1.0)
    for i, name in enumerate(names):
        _strip(axes[f"strip {name}"], folded[folded.action == name], rng, limit, name, first=i == 0)
        if trained_steps:
            mine = results.growth[results.growth.action == name]
            _curve(axes[f"curve {name}"], mine, first=i == 0)
    if trained_steps:
        top = max(axes[f"curve {n}"].get_ylim()[1] for n in names)
        for name in names:
            axes[f"curve {name}"].set_ylim(0, top)
    report.figure("congruence", figure)


def _strip(axis, rows, rng: np.random.Generator, limit: float, name: str, first: bool) -> None:
    layers = sorted(rows.layer.unique())
    for side, model in ((-0.2, TRAINED), (0.2, UNTRAINED)):
        part = rows[rows.model == model]
        place = part.layer.to_numpy() + side + rng.uniform(-0.15, 0.15, len(part))
        axis.scatter(
            place, part.congruence, s=4, lw=0, alpha=0.6, color=COLOURS[model], label=model
        )
    axis.set_xticks(layers, [f"MLP{layer}" for layer in layers])
    axis.set(title=name, ylim=(-limit, limit))
    if first:
        axis.set_ylabel("congruence (a dot a neuron)")
        axis.legend(loc="upper left", markerscale=3, handletextpad=0.1)


def _curve(axis, rows, first: bool) -> None:
    steps = rows[rows.step.notna()].sort_values("step")
    for layer, part in steps.groupby("layer"):
        colour = LAYER_COLOURS[int(layer) % len(LAYER_COLOURS)]
        axis.plot(part.step, part["size"], color=colour, lw=1.5, label=f"MLP{layer}")
        axis.fill_between(part.step, part.low, part.high, color=colour, alpha=0.2, lw=0)
    level = float(rows[rows.model == UNTRAINED]["size"].mean())
    axis.axhline(level, color="#8d99ae", lw=1, ls="--", label="untrained")
    axis.set_xscale("symlog", linthresh=1)
    axis.set(xlabel="training step", xlim=(0, None))
    if first:
        axis.set_ylabel("mean |congruence|")
        axis.legend(loc="lower left")
