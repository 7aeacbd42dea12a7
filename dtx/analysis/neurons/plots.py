"""The neurons at a glance: what they do to the logits, when they are active, and how selective they are."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtx.analysis.core.plots import ACCENT, MODEL_COLOURS, heatmap
from dtx.analysis.core.result import Result
from dtx.analysis.neurons.spec import TRAINED, UNTRAINED
from dtx.env.actions import Action
from dtx.figures import new

COLOURS = {UNTRAINED: MODEL_COLOURS[UNTRAINED], TRAINED: ACCENT}


def draw(result: Result) -> Figure:
    """Logits a unit, mean activation by decision (or reward-to-go where there is none), and selectivity."""
    table, facts = result.tables["neurons"], result.tables["facts"]
    names, actions = names_of(table), actions_of(table)
    count = len(names)
    figure, axes = new(
        7.0,
        1.9 + 0.2 * max(count, 6),
        mosaic=[["logits", "facts", "selectivity"]],
        width_ratios=[1, 1.2, 0.9],
    )
    table = table.set_index(["model", "name"])
    weight = table.loc[TRAINED].loc[names, actions].to_numpy(float)
    _heat(figure, axes["logits"], weight, names, actions, "logits")
    axes["logits"].set_title("logits a unit")
    fact, words, grid = _activity(facts[facts.model == TRAINED], names)
    _heat(figure, axes["facts"], grid, [], words, "share of its largest")
    axes["facts"].set_title(f"active, by {fact}")
    axis = axes["selectivity"]
    for model, colour in COLOURS.items():
        value = table.loc[model].loc[names].selectivity
        axis.scatter(value, range(count), s=22, color=colour, label=model, zorder=3)
    axis.set(title="selectivity", xlim=(-0.03, 1.03), ylim=(count - 0.5, -0.5))
    axis.set_xlabel("variance explained by one fact", fontsize=8)
    axis.set_yticks([])
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22 * 4 / (1.9 + 0.2 * count)))
    return figure


def names_of(neurons: pd.DataFrame) -> list[str]:
    """Names in the order of their rank, from the table ``neurons``."""
    return neurons.loc[neurons.model == TRAINED].sort_values("rank")["name"].tolist()


def actions_of(neurons: pd.DataFrame) -> list[str]:
    """Actions of which the table ``neurons`` has the congruence."""
    return [action.value for action in Action if action.value in neurons]


def _activity(facts: pd.DataFrame, names: list[str]) -> tuple[str, list[str], np.ndarray]:
    """A fact, its values, and mean activations as shares of each neuron's largest: (neurons, values)."""
    fact = "decision" if "decision" in set(facts.fact) else "reward-to-go"
    facts = facts.loc[facts.fact == fact]
    words = list(dict.fromkeys(facts["value"]))
    grid = facts.pivot(index="name", columns="value", values="mean").loc[names, words].to_numpy()
    largest = np.abs(grid).max(1, keepdims=True)
    return fact, words, grid / np.where(largest > 0, largest, 1)


def _heat(
    figure: Figure, axis: Axes, grid: np.ndarray, names: list[str], words: list[str], label: str
) -> None:
    image = heatmap(axis, grid, names, words, cmap="RdBu")
    if not names:
        axis.set_yticks([])
    bar = figure.colorbar(image, ax=axis, location="bottom", shrink=0.8, pad=0.02, label=label)
    bar.ax.tick_params(labelsize=7)
