"""The neurons at a glance: what they do to the logits, when they are active, and how selective they are."""

from __future__ import annotations

import numpy as np

from dtx.analysis.neurons import Neurons
from dtx.analysis.neurons.compute import TRAINED, UNTRAINED, Results
from dtx.analysis.neurons.page import Page
from dtx.figures import new
from dtx.report import Report


def draw(report: Report, results: Results, stage: Neurons) -> None:
    """Draw the overview and the page."""
    report.page("neurons", Page(results, stage))
    count = len(results.names)
    facts = results.facts[results.facts.model == TRAINED]
    fact = "decision" if "decision" in set(facts.fact) else "reward-to-go"
    facts = facts[facts.fact == fact]
    figure, axes = new(
        7.0,
        1.9 + 0.2 * max(count, 6),
        mosaic=[["logits", "facts", "selectivity"]],
        width_ratios=[1, 1.2, 0.9],
    )
    table = results.neurons.set_index(["model", "name"])
    own = table.loc[TRAINED].loc[results.names]
    weight = own[results.actions].to_numpy(float)
    _heat(figure, axes["logits"], weight, results.actions, "logits a unit")
    axes["logits"].set_yticks(range(count), results.names, fontsize=7)
    words = list(dict.fromkeys(facts.value))
    grid = facts.pivot(index="name", columns="value", values="mean").loc[results.names, words]
    grid = grid.to_numpy()
    largest = np.abs(grid).max(1, keepdims=True)
    title = f"active, by {fact}"
    _heat(figure, axes["facts"], grid / np.where(largest > 0, largest, 1), words, title)
    axes["facts"].set_yticks([])
    axis = axes["selectivity"]
    for model, colour in ((UNTRAINED, "#b9bfcc"), (TRAINED, "#d1803a")):
        value = table.loc[model].loc[results.names].selectivity
        axis.scatter(value, range(count), s=22, color=colour, label=model, zorder=3)
    axis.set(title="selectivity", xlim=(-0.03, 1.03), ylim=(count - 0.5, -0.5))
    axis.set_xlabel("variance explained by one fact", fontsize=8)
    axis.set_yticks([])
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22 * 4 / (1.9 + 0.2 * count)))
    report.figure("neurons", figure)


def _heat(figure, axis, grid: np.ndarray, words: list[str], title: str) -> None:
    limit = float(np.abs(grid).max()) or 1.0
    image = axis.imshow(grid, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    axis.grid(False)
    axis.set_title(title)
    axis.set_xticks(range(len(words)), words, rotation=90, fontsize=7)
    label = "share of its largest" if limit <= 1.0 + 1e-9 and "active" in title else "logits"
    bar = figure.colorbar(image, ax=axis, location="bottom", shrink=0.8, pad=0.02, label=label)
    bar.ax.tick_params(labelsize=7)
