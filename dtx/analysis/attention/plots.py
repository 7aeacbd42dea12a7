"""The figures: modality matrices, what reward-to-go moves, and maps of the heads that it moves."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from dtx.analysis.attention.spec import TRAINED, AttentionSpec
from dtx.analysis.core.notes import controls, note
from dtx.analysis.core.plots import headline, heatmap
from dtx.analysis.core.result import Result
from dtx.dt.names import head_name
from dtx.dt.tokens import PADDING
from dtx.figures import CLASS_COLOURS, LINES, MARKERS, PHONE, new

MAP = "magma_r"


def modality(result: Result, spec: AttentionSpec) -> Figure:
    """One small matrix a head and target: query kind by key kind, mean over layouts."""
    table = result.tables["modality"]
    layers, heads = (sorted(table[name].unique()) for name in ("layer", "head"))
    queries, keys = (list(dict.fromkeys(table[name])) for name in ("query", "key"))
    columns = [(layer, target) for layer in layers for target in (spec.high, spec.low)]
    mosaic = [[f"{layer}/{head}/{target:g}" for layer, target in columns] for head in heads]
    width = max(PHONE, 0.5 + 0.68 * len(columns))
    figure, axes = new(width, 0.86 * len(heads) + 0.7, mosaic=mosaic)
    mean = table.groupby(["layer", "head", "target", "query", "key"]).attention.mean()
    effect = _effects(result)
    image = None
    for head in heads:
        for layer, target in columns:
            axis = axes[f"{layer}/{head}/{target:g}"]
            matrix = mean[layer, head, target].unstack("key").loc[queries, keys]
            image = heatmap(axis, matrix, queries, keys, limit=1, low=0, cmap=MAP, rotation=0)
            if head != heads[-1]:
                axis.set_xticks(range(len(keys)), [])
            if (layer, target) != columns[0]:
                axis.set_yticks(range(len(queries)), [])
            else:
                axis.set_ylabel(f"head {head}", fontsize=8)
            axis.tick_params(length=0, pad=1)
            above = f"L{layer}\nRTG {target:g}\n" if head == heads[0] else ""
            value, matters = effect[target, layer, head]
            weight = "bold" if matters else "normal"
            axis.set_title(
                f"{above}{value:.2f}", fontsize=7.5, loc="center", pad=2, fontweight=weight
            )
    figure.colorbar(
        image, ax=list(axes.values()), location="bottom", shrink=0.6, pad=0.01, aspect=40,
        label="attention of the query's kind (row) to the key's (column)",
    )  # fmt: skip
    layouts = table.layout.nunique() if "layout" in table else 0
    headline(figure, result, _strongest(result), note(
        f"mean over {layouts} layouts; R reward-to-go, S state, A action",
        "number: effect of even attention in the head's place, as a share of the logits' size; "
        "bold: more than the best head of untrained models",
        controls(result),
    ))  # fmt: skip
    return figure


def _strongest(result: Result) -> str:
    """How many heads have an effect, and which has the largest."""
    table = result.tables["heads"]
    first = table.loc[table.effect_even.idxmax()]
    heads = table[["layer", "head"]].drop_duplicates()
    count = len(table[table.matters][["layer", "head"]].drop_duplicates())
    return (
        f"The attention of {count} of {len(heads)} heads has an effect beyond untrained models', most "
        f"{head_name(int(first.layer), int(first['head']))} at RTG {first.target:g} ({first.effect_even:.2f})"
    )


def _effects(result: Result) -> dict[tuple[float, int, int], tuple[float, bool]]:
    """Effect of even attention by target, layer and head, and whether it exceeds untrained models'."""
    table = result.tables["heads"]
    keys = zip(table.target, table.layer, table["head"], strict=True)
    return dict(zip(keys, zip(table.effect_even, table.matters, strict=True), strict=True))


def moved(result: Result, spec: AttentionSpec) -> Figure:
    """Total variation against the high target: by target and layer, and by head at the low target."""
    table = result.tables["moved"]
    layers, heads = (sorted(table[name].unique()) for name in ("layer", "head"))
    figure, axes = new(PHONE, 5.4, mosaic=[["curve"], ["heads"]], height_ratios=[1.5, 1])
    trained = table[table.model == TRAINED]
    for layer in layers:
        colour = CLASS_COLOURS[layer % len(CLASS_COLOURS)]
        mark = MARKERS[layer % len(MARKERS)]
        line = LINES[layer % len(LINES)]
        own = trained[trained.layer == layer].groupby("target").total_variation.mean()
        others = table[(table.model != TRAINED) & (table.layer == layer)]
        worst = others.groupby(["target", "model"]).total_variation.mean().groupby("target").max()
        axes["curve"].plot(
            own.index, own, ls=line, marker=mark, color=colour, ms=4, label=f"layer {layer}"
        )
        axes["curve"].plot(worst.index, worst, ":", marker=mark, color=colour, lw=1.2, ms=2.5)
    axes["curve"].set(
        xlabel="target reward-to-go",
        ylabel=f"total variation against RTG {spec.high:g}",
        ylim=(0, None),
    )
    axes["curve"].legend(
        title="dotted: largest of untrained models", title_fontsize=7.5, fontsize=7.5
    )
    at_low = trained[trained.target == spec.low]
    matrix = at_low.groupby(["layer", "head"]).total_variation.mean().unstack("head")
    axis = axes["heads"]
    largest = float(matrix.max().max())
    limit, half = max(largest, 0.01), largest / 2
    heatmap(axis, matrix, layers, heads, limit=limit, low=0, cmap=MAP, size=9, rotation=0)
    for layer in layers:
        for head in heads:
            value = matrix.loc[layer, head]
            axis.text(
                head, layer, f"{value:.2f}"[1:] if value < 1 else "1",
                ha="center", va="center", fontsize=8, color="white" if value > half else "black",
            )  # fmt: skip
    axis.set(
        xlabel="head", ylabel="layer", title=f"From RTG {spec.high:g} to {spec.low:g}, by head"
    )
    place = matrix.stack().idxmax()
    text = (
        f"From RTG {spec.high:g} to {spec.low:g} the attention of "
        f"{head_name(int(place[0]), int(place[1]))} changes most (total variation {largest:.2f})"
    )
    about = f"mean over the queries of {trained.layout.nunique()} layouts"
    headline(
        figure, result, text, note(about, f"control: {table.model.nunique() - 1} untrained models")
    )
    return figure


def maps(result: Result, spec: AttentionSpec) -> Figure:
    """Maps over the trajectory of the three heads that reward-to-go moves most, in the first layout."""
    variation = result.tables["moved"]
    variation = variation[(variation.model == TRAINED) & (variation.target == spec.low)]
    by_head = variation.groupby(["layer", "head"]).total_variation.mean()
    top = by_head.nlargest(3).index.tolist()
    names, pattern = result.arrays["tokens"], result.arrays["pattern"]
    effect = _effects(result)
    mosaic = [[f"{layer}/{head}/{t:g}" for t in (spec.high, spec.low)] for layer, head in top]
    figure, axes = new(PHONE, 2.3 * len(top), mosaic=mosaic)
    first = max(int(np.flatnonzero(names != PADDING)[0]) - 1, 0)
    shown = names[first:]
    for layer, head in top:
        for target in (spec.high, spec.low):
            axis = axes[f"{layer}/{head}/{target:g}"]
            at = spec.targets.index(target)
            grid = np.where(np.tri(len(shown)), pattern[at, 0, layer, head, first:, first:], np.nan)
            image = heatmap(
                axis, grid, shown, shown, limit=1, low=0, cmap=MAP, size=7, aspect="equal"
            )
            axis.tick_params(length=0, pad=1)
            value, _ = effect[target, layer, head]
            axis.set_title(
                f"{head_name(layer, head)}, RTG {target:g}, effect {value:.2f}", fontsize=8
            )
    layout = result.tables["maps"].layout.iloc[0]
    figure.colorbar(
        image, ax=list(axes.values()), location="bottom", shrink=0.6, aspect=40,
        label="attention of the query (row) to the key (column)",
    )  # fmt: skip
    named = ", ".join(head_name(*place) for place in top)
    text = f"Reward-to-go moves the attention of {named} most"
    about = f"layout {layout}; effect: of even attention, as a share of the logits' size"
    headline(figure, result, text, note(about, controls(result)))
    return figure
