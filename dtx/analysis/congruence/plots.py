"""The figure: congruence as strips of neurons by layer, and its size over training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtx.analysis.congruence.spec import FOLDED, TRAINED, UNTRAINED
from dtx.analysis.core.notes import controls, note
from dtx.analysis.core.plots import LAYER_COLOURS, MODEL_COLOURS, QUIET, headline
from dtx.analysis.core.result import Result, Verdict
from dtx.dt.names import mlp_name
from dtx.figures import LINES, PHONE, new


def draw(result: Result, actions: Sequence[str], seed: int) -> Figure:
    """One column an action: strips above, the mean over training below, if checkpoints were kept.

    Args:
        result: Of the analysis. actions: Names, in the order of the columns. seed: Of the dots' places.
    """
    table, growth = result.tables["congruence"], result.tables["growth"]
    trained_steps = bool(growth.step.notna().any())
    mosaic = [[f"strip {n}" for n in actions]]
    if trained_steps:
        mosaic.append([f"curve {n}" for n in actions])
    figure, axes = new(PHONE, 5.4 if trained_steps else 3.0, mosaic=mosaic)
    rng = np.random.default_rng(seed)
    folded = table[table.weights == FOLDED]
    limit = 1.05 * float(folded.congruence.abs().max() or 1.0)
    for i, name in enumerate(actions):
        _strip(axes[f"strip {name}"], folded[folded.action == name], rng, limit, name, first=i == 0)
        if trained_steps:
            rows = growth[growth.action == name]
            _curve(axes[f"curve {name}"], rows, first=i == 0)
    if trained_steps:
        top = max(axes[f"curve {n}"].get_ylim()[1] for n in actions)
        for name in actions:
            axes[f"curve {name}"].set_ylim(0, top)
    neurons = int(result.metrics["neurons"] or 0)
    claim = result.claims[0]
    about = note(f"{neurons:,} neurons, folded weights, a dot a neuron", controls(result))
    words = "grows with layer" if claim.verdict is Verdict.CONFIRMED else "does not grow with layer"
    named = "/".join(actions)
    if claim.verdict not in (Verdict.CONFIRMED, Verdict.NOT_CONFIRMED):
        words = f"grows with layer: {claim.verdict.value}"
    headline(figure, result, f"Congruence with {named} {words}", about)
    return figure


def _strip(
    axis: Axes,
    rows: pd.DataFrame,
    rng: np.random.Generator,
    limit: float,
    name: str,
    first: bool,
) -> None:
    layers = sorted(rows.layer.unique())
    for side, model in ((-0.2, TRAINED), (0.2, UNTRAINED)):
        part = rows[rows.model == model]
        place = part.layer.to_numpy() + side + rng.uniform(-0.15, 0.15, len(part))
        axis.scatter(
            place,
            part.congruence,
            s=5,
            lw=0,
            alpha=0.7,
            marker={TRAINED: "o", UNTRAINED: "v"}[model],
            color=MODEL_COLOURS[model],
            label=model,
        )
    axis.set_xticks(layers, [mlp_name(layer) for layer in layers], fontsize=7.5, rotation=45)
    axis.set(title=name, ylim=(-limit, limit))
    if not first:
        axis.set_yticklabels([])
    if first:
        axis.set_ylabel("congruence: effect on the logit\nper unit of activation")
        axis.legend(loc="upper left", markerscale=2.5, handletextpad=0.1, fontsize=7.5)


def _curve(axis: Axes, rows: pd.DataFrame, first: bool) -> None:
    steps = rows[rows.step.notna()].sort_values("step")
    for layer, part in steps.groupby("layer"):
        colour = LAYER_COLOURS[int(layer) % len(LAYER_COLOURS)]
        line = LINES[int(layer) % len(LINES)]
        axis.plot(
            part.step, part["size"], ls=line, color=colour, lw=1.5, label=mlp_name(int(layer))
        )
    untrained = rows[rows.model == UNTRAINED]
    low, high = float(untrained.low.min()), float(untrained.high.max())
    axis.axhspan(low, high, color=QUIET, alpha=0.3, lw=0, label="untrained, 95%")
    axis.set_xscale("symlog", linthresh=1)
    axis.set(xlabel="training step", xlim=(0, None))
    axis.tick_params(axis="x", labelsize=7, rotation=45)
    if first:
        axis.set_ylabel("mean |congruence|")
        axis.legend(loc="lower left", fontsize=7.5)
    else:
        axis.set_yticklabels([])
