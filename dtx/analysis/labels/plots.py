"""The figure: how many features of each source get a name, and how far labels go beyond the input."""

from __future__ import annotations

from matplotlib.figure import Figure

from dtx.analysis.core.notes import controls, note
from dtx.analysis.core.plots import headline
from dtx.analysis.core.result import Result
from dtx.analysis.labels.spec import (
    INPUT_ONLY,
    NAMED,
    PER_VIEW,
    RANDOM,
    SHUFFLED,
    TRAINED,
    UNNAMED,
    UNTRAINED,
)
from dtx.figures import BLUE, GREY, ORANGE, SOFT, TRACK, new

SOURCES = (TRAINED, UNTRAINED, RANDOM, PER_VIEW, SHUFFLED)
VERDICT_COLOURS = {NAMED: BLUE, INPUT_ONLY: ORANGE, UNNAMED: GREY}
_WORDS = {
    NAMED: "named beyond input and untrained",
    INPUT_ONLY: "named as well by the input or an untrained network",
}
MOST = 4000
"""Points that are drawn of a source; more hide each other."""


def draw(result: Result) -> Figure:
    """Left: shares of live features by source. Right: each feature's label against what the input tells."""
    figure, axes = new(7.0, 3.5, mosaic=[["shares", "scores"]], width_ratios=[1.0, 0.95])
    _shares(axes["shares"], result)
    _scores(axes["scores"], result)
    m = result.metrics
    share, other = m["named_share"], m["named_share_untrained"]
    headline(
        figure,
        result,
        f"{share:.1%} of live features are named beyond the input, {other:.1%} in untrained networks",
        note(
            "left: mean share over dictionaries, a dot each; dotted: where one more untrained network would lie",
            "right: one dot a live feature of the first dictionary, F1 on prefixes that the label was not fitted to",
            controls(result),
        ),
    )
    return figure


def _shares(axis, result: Result) -> None:
    lines = result.tables["sources"]
    for y, source in enumerate(SOURCES):
        own = lines[lines.source == source]
        named, both = own.named.mean(), own.good.mean()
        axis.barh(y, 1, color=TRACK, height=0.6)
        axis.barh(y, both, color=VERDICT_COLOURS[INPUT_ONLY], height=0.6, hatch="///", edgecolor="white")
        axis.barh(y, named, color=VERDICT_COLOURS[NAMED], height=0.6)
        axis.plot(own.named, [y] * len(own), "o", color="white", markeredgecolor="black", ms=4, mew=0.8)
        axis.text(1.02, y, f"{named:.1%}", va="center", fontsize=8)
    if (high := result.metrics["named_share_untrained_high"]) is not None:
        axis.axvline(min(high, 1), color=SOFT, ls=":", lw=1.2)
    axis.set_yticks(range(len(SOURCES)), [s.replace(" ", "\n", 1) for s in SOURCES])
    axis.set(xlim=(0, 1.19), ylim=(len(SOURCES) - 0.5, -1.35), xlabel="share of live features")
    axis.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    axis.grid(False)
    handles = [
        axis.barh([0], [0], color=VERDICT_COLOURS[NAMED]),
        axis.barh([0], [0], color=VERDICT_COLOURS[INPUT_ONLY], hatch="///", edgecolor="white"),
    ]
    axis.legend(handles, list(_WORDS.values()), loc="upper left", fontsize=7.5, borderaxespad=0.1)


def _scores(axis, result: Result) -> None:
    table = result.tables["features"]
    own = table[table.source == TRAINED]
    own = own[own.dictionary == own.dictionary.iloc[0]].head(MOST)
    axis.plot([0, 1], [0, 1], color=SOFT, lw=0.8)
    for verdict, marker in ((UNNAMED, "."), (INPUT_ONLY, "^"), (NAMED, "o")):
        some = own[own.verdict == verdict]
        best = some[["input_f1", "untrained_f1"]].max(axis=1)
        axis.plot(best, some.f1, marker, color=VERDICT_COLOURS[verdict], ms=3.5, alpha=0.7,
                  label=f"{verdict} ({len(some):,})", mew=0)  # fmt: skip
    axis.set(
        xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel="F1 of the label",
        xlabel="F1 of input or untrained network, the larger",
    )  # fmt: skip
    axis.legend(loc="upper left", fontsize=7.5, handletextpad=0.2)
