"""The figure: agreement and divergence of each model, and likelihood under the teacher by reward-to-go."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtx.analysis.core.notes import controls, note
from dtx.analysis.core.plots import TARGET_COLOURS, headline
from dtx.analysis.core.result import Result
from dtx.analysis.teacher.spec import DT, N_GRAM, OWN, UNTRAINED
from dtx.figures import HATCHES, INK, LINES, MARKERS, MODEL_COLOURS, ORANGE, PHONE, new

COLOURS = {DT: MODEL_COLOURS["dt"], N_GRAM: ORANGE, UNTRAINED: MODEL_COLOURS["untrained"]}


def draw(result: Result, temperatures: Sequence[float]) -> Figure:
    """Agreement and divergence by model; below, likelihood by reward-to-go."""
    table = result.tables["comparison"]
    figure, axes = new(
        PHONE,
        7.4,
        mosaic=[["agreement"], ["kl"], ["likelihood"]],
        height_ratios=[1, 1.5, 2],
    )
    own = table[table.asked_for == OWN]
    first = own[own.temperature == min(temperatures)].set_index("model")
    axis = axes["agreement"]
    for place, (name, colour) in enumerate(COLOURS.items()):
        row = first.loc[name]
        axis.barh(place, row.agreement, color=colour, height=0.6)
        axis.plot([row.agreement_low, row.agreement_high], [place, place], color=INK, lw=1.2)
        end = min(row.agreement_high, 1.0)  # of few episodes an interval goes beyond
        axis.text(end + 0.02, place, f"{row.agreement:.2f}", va="center", fontsize=8)
    axis.set_yticks(range(len(COLOURS)), list(COLOURS))
    axis.invert_yaxis()
    axis.set(title="Same most probable action", xlabel="share of states", xlim=(0, 1.1))
    axis = axes["kl"]
    for place, (name, colour) in enumerate(COLOURS.items()):
        for shift, t in zip((-0.18, 0.18), temperatures, strict=False):
            row = own[(own.model == name) & (own.temperature == t)].iloc[0]
            axis.barh(
                place + shift,
                row.kl,
                color=colour,
                height=0.32,
                hatch=HATCHES[temperatures.index(t) % len(HATCHES)],
                edgecolor="white",
            )
            axis.plot([row.kl_low, row.kl_high], [place + shift] * 2, color=INK, lw=1)
            axis.text(
                row.kl_high + 0.03 * own.kl.max(),
                place + shift,
                f"T={t:g}: {row.kl:.2g}",
                va="center",
                fontsize=7.5,
            )
    axis.set_yticks(range(len(COLOURS)), list(COLOURS))
    axis.invert_yaxis()
    axis.set(title="KL(teacher || model)", xlabel="nats", xlim=(0, float(own.kl_high.max()) * 1.45))
    _likelihood(axes["likelihood"], table, temperatures)
    states = (
        f"{int(first.loc[DT].states):,} states of {int(first.loc[DT].episodes):,} held-out episodes"
    )
    low, high = (result.metrics[f"hotter_{name}"] for name in ("low", "high"))
    text = (
        f"The model agrees with its teacher in {first.loc[DT].agreement:.0%} of states "
        f"(n-gram {first.loc[N_GRAM].agreement:.0%}); the hotter teacher's log-likelihood is higher by "
        f"{low:.2f} nats at the lowest RTG and by {high:.2f} at the highest"
    )
    headline(figure, result, text, note(states, "n-gram: of actions alone", controls(result)))
    return figure


def _likelihood(axis: Axes, table: pd.DataFrame, temperatures: Sequence[float]) -> None:
    """Likelihood under the teacher by temperature and counterfactual reward-to-go; the n-gram's is flat."""
    asked = table[(table.model == DT) & (table.asked_for != OWN)].copy()
    asked["asked_for"] = asked.asked_for.astype(float)
    gram = table[table.model == N_GRAM].set_index("temperature").likelihood
    for index, t in enumerate(temperatures):
        rows = asked[asked.temperature == t].sort_values("asked_for")
        colour = TARGET_COLOURS[index % len(TARGET_COLOURS)]
        line, mark = LINES[index % len(LINES)], MARKERS[index % len(MARKERS)]
        axis.plot(
            rows.asked_for,
            rows.likelihood,
            ls=line,
            marker=mark,
            color=colour,
            ms=4,
            label=f"T={t:g}",
        )
        axis.fill_between(
            rows.asked_for,
            rows.likelihood_low,
            rows.likelihood_high,
            color=colour,
            alpha=0.18,
            lw=0,
        )
        axis.axhline(gram[t], color=colour, ls=":", lw=1.2)
    axis.set(
        title="Log-likelihood under the teacher",
        xlabel="counterfactual reward-to-go (dotted: n-gram)",
        ylabel="nats per action",
    )
    axis.legend()
