"""The neurons at a glance: what they do to the logits, when they are active, and how selective they are."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtx.analysis.core.notes import controls, note
from dtx.analysis.core.plots import MODEL_COLOURS, headline, heatmap
from dtx.analysis.core.result import Result
from dtx.analysis.neurons.spec import TRAINED, UNTRAINED
from dtx.dt.names import renamed
from dtx.env.actions import Action
from dtx.figures import PHONE, SIGNED, new

COLOURS = {model: MODEL_COLOURS[model] for model in (UNTRAINED, TRAINED)}


def draw(result: Result) -> Figure:
    """Effect on logits, mean activation by decision (or reward-to-go without one), and selectivity."""
    table, facts = result.tables["neurons"], result.tables["facts"]
    names, actions = names_of(table), actions_of(table)
    count = len(names)
    shown = [renamed(name) for name in names]
    figure, axes = new(
        PHONE,
        2 * (1.9 + 0.19 * max(count, 6)),
        mosaic=[["logits", "facts"], ["selectivity", "selectivity"]],
    )
    table = table.set_index(["model", "name"])
    weight = table.loc[TRAINED].loc[names, actions].to_numpy(float)
    _heat(
        figure, axes["logits"], weight, shown, actions, "effect on logits per\nunit of activation"
    )
    axes["logits"].set_title("Effect on each logit")
    fact, words, grid = _activity(facts[facts.model == TRAINED], names)
    _heat(figure, axes["facts"], grid, [], words, "activation / max")
    axes["facts"].set_title(f"Active, by {fact}")
    axis = axes["selectivity"]
    for model, colour in COLOURS.items():
        value = table.loc[model].loc[names].selectivity
        mark = "o" if model == TRAINED else "v"
        axis.scatter(value, range(count), s=26, marker=mark, color=colour, label=model, zorder=3)
    axis.set(title="Selectivity", xlim=(-0.03, 1.03), ylim=(count - 0.5, -0.5))
    axis.set_xlabel("variance explained by best single feature")
    axis.set_yticks(range(count), shown, fontsize=8)
    axis.legend(loc="best")
    own = table.loc[TRAINED].loc[names]
    best = own.selectivity.idxmax()
    text = (
        f"The best single feature explains {own.selectivity.mean():.0%} of a neuron's variance on average "
        f"({result.metrics['selectivity_untrained']:.0%} in untrained models), most of "
        f"{renamed(best)}: {own.fact[best]}, {own.selectivity[best]:.0%}"
    )
    about = f"the {count} neurons with the largest effect on the logits"
    headline(figure, result, text, note(about, controls(result)))
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
    image = heatmap(axis, grid, names, words, cmap=SIGNED)
    if not names:
        axis.set_yticks([])
    bar = figure.colorbar(image, ax=axis, location="bottom", shrink=0.8, pad=0.02, label=label)
    bar.ax.tick_params(labelsize=7)
