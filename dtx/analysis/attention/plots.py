"""The figures: modality matrices, what reward-to-go moves, and maps of the heads that it moves."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from dtx.analysis.attention.spec import TRAINED, AttentionSpec
from dtx.analysis.core.plots import heatmap, title
from dtx.analysis.core.result import Result
from dtx.dt.tokens import PADDING
from dtx.figures import new

MAP = "magma_r"
COLOURS = ("#1d3557", "#2a9d5c", "#e9a23b", "#d1495b", "#8d5fb9", "#5b8fb9")
"""Of layers, in their order."""


def modality(result: Result, spec: AttentionSpec) -> Figure:
    """One small matrix a head and target: query kind by key kind, mean over layouts."""
    table = result.tables["modality"]
    layers, heads = (sorted(table[name].unique()) for name in ("layer", "head"))
    queries, keys = (list(dict.fromkeys(table[name])) for name in ("query", "key"))
    mosaic = [
        [f"{layer}/{head}/{target:g}" for head in heads]
        for layer in layers
        for target in (spec.high, spec.low)
    ]
    figure, axes = new(7.0, 0.85 * len(mosaic) + 1.3, mosaic=mosaic)
    mean = table.groupby(["layer", "head", "target", "query", "key"]).attention.mean()
    effect = _effects(result)
    image = None
    for layer in layers:
        for head in heads:
            for target in (spec.high, spec.low):
                axis = axes[f"{layer}/{head}/{target:g}"]
                matrix = mean[layer, head, target].unstack("key").loc[queries, keys]
                image = heatmap(axis, matrix, queries, keys, limit=1, low=0, cmap=MAP, rotation=0)
                if layer != layers[-1] or target != spec.low:
                    axis.set_xticks(range(len(keys)), [])
                if head != 0:
                    axis.set_yticks(range(len(queries)), [])
                axis.tick_params(length=0, pad=1)
                if head == 0:
                    axis.set_ylabel(f"L{layer}\nRTG {target:g}", fontsize=7)
                above = f"head {head}\n" if layer == layers[0] and target == spec.high else ""
                value, matters = effect[target, layer, head]
                weight = "bold" if matters else "normal"
                text = f"{above}effect {value:.2f}"
                axis.set_title(text, fontsize=6.5, loc="center", pad=2, fontweight=weight)
    text = (
        "Attention by modality: query kind (rows) to key kind (columns), mean over all layouts\n"
        "effect: how far the logits move with even attention instead; bold: more than in untrained models"
    )
    title(figure, text, size=8)
    figure.colorbar(image, ax=list(axes.values()), shrink=0.4, pad=0.01, aspect=30)
    return figure


def _effects(result: Result) -> dict[tuple[float, int, int], tuple[float, bool]]:
    """Effect of even attention by target, layer and head, and whether it exceeds untrained models'."""
    table = result.tables["heads"]
    keys = zip(table.target, table.layer, table["head"], strict=True)
    return dict(zip(keys, zip(table.effect_even, table.matters, strict=True), strict=True))


def moved(result: Result, spec: AttentionSpec) -> Figure:
    """Total variation against the high target: by target and layer, and by head at the low target."""
    table = result.tables["moved"]
    layers, heads = (sorted(table[name].unique()) for name in ("layer", "head"))
    figure, axes = new(7.0, 3.2, mosaic=[["curve", "heads"]], width_ratios=[1.1, 1])
    trained = table[table.model == TRAINED]
    for layer in layers:
        colour = COLOURS[layer % len(COLOURS)]
        own = trained[trained.layer == layer].groupby("target").total_variation.mean()
        others = table[(table.model != TRAINED) & (table.layer == layer)]
        worst = others.groupby(["target", "model"]).total_variation.mean().groupby("target").max()
        axes["curve"].plot(own.index, own, "o-", color=colour, ms=3.5, label=f"layer {layer}")
        axes["curve"].plot(worst.index, worst, ":", color=colour, lw=1.2)
    axes["curve"].set(
        xlabel="reward-to-go",
        ylabel=f"total variation against {spec.high:g}",
        title="How far reward-to-go moves attention",
        ylim=(0, None),
    )
    axes["curve"].legend(title="dotted: largest of untrained", title_fontsize=7, fontsize=7)
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
    axis.set(xlabel="head", ylabel="layer", title=f"From {spec.high:g} to {spec.low:g}, by head")
    return figure


def maps(result: Result, spec: AttentionSpec) -> Figure:
    """Maps over the trajectory of the three heads that reward-to-go moves most, in the first layout."""
    variation = result.tables["moved"]
    variation = variation[(variation.model == TRAINED) & (variation.target == spec.low)]
    by_head = variation.groupby(["layer", "head"]).total_variation.mean()
    top = by_head.nlargest(3).index.tolist()
    names, pattern = result.arrays["tokens"], result.arrays["pattern"]
    effect = _effects(result)
    mosaic = [[f"{layer}/{head}/{t:g}" for layer, head in top] for t in (spec.high, spec.low)]
    figure, axes = new(7.0, 5.1, mosaic=mosaic)
    first = max(int(np.flatnonzero(names != PADDING)[0]) - 1, 0)
    shown = names[first:]
    for layer, head in top:
        for target in (spec.high, spec.low):
            axis = axes[f"{layer}/{head}/{target:g}"]
            at = spec.targets.index(target)
            grid = np.where(np.tri(len(shown)), pattern[at, 0, layer, head, first:, first:], np.nan)
            heatmap(axis, grid, shown, shown, limit=1, low=0, cmap=MAP, size=6, aspect="equal")
            axis.tick_params(length=0, pad=1)
            value, _ = effect[target, layer, head]
            axis.set_title(f"L{layer}H{head}, RTG {target:g}, effect {value:.2f}", fontsize=7)
    layout = result.tables["maps"].layout.iloc[0]
    text = f"The heads that reward-to-go moves most: query (rows) to key, layout {layout}"
    title(figure, text, size=9)
    return figure
