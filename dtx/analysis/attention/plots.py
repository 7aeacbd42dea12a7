"""A1's figures: modality matrices, what reward-to-go moves, maps of the moved heads, and the page."""

from __future__ import annotations

import numpy as np

from dtx.analysis.attention import Attention
from dtx.analysis.attention.compute import Results
from dtx.analysis.attention.page import Page
from dtx.figures import new
from dtx.report import Report

MAP = "magma_r"


def draw(report: Report, results: Results, stage: Attention) -> None:
    """Write ``modality.png``, ``moved.png``, ``maps.png`` and ``attention.html``."""
    _modality(report, results, stage)
    _moved(report, results, stage)
    _maps(report, results, stage)
    report.page("attention", Page(results, stage))


def _modality(report: Report, results: Results, stage: Attention) -> None:
    """One small matrix a head and target: query kind by key kind, mean over layouts."""
    table = results.modality
    layers, heads = (sorted(table[name].unique()) for name in ("layer", "head"))
    queries, keys = (list(dict.fromkeys(table[name])) for name in ("query", "key"))
    mosaic = [
        [f"{layer}/{head}/{target:g}" for head in heads]
        for layer in layers
        for target in (stage.high, stage.low)
    ]
    figure, axes = new(7.0, 0.75 * len(mosaic) + 1.1, mosaic=mosaic)
    mean = table.groupby(["layer", "head", "target", "query", "key"]).attention.mean()
    image = None
    for layer in layers:
        for head in heads:
            for target in (stage.high, stage.low):
                axis = axes[f"{layer}/{head}/{target:g}"]
                matrix = mean[layer, head, target].unstack("key").loc[queries, keys]
                image = axis.imshow(matrix, vmin=0, vmax=1, cmap=MAP, aspect="auto")
                last = layer == layers[-1] and target == stage.low
                axis.set_xticks(range(len(keys)), keys if last else [], fontsize=7)
                axis.set_yticks(range(len(queries)), queries if head == 0 else [], fontsize=7)
                axis.tick_params(length=0, pad=1)
                axis.grid(False)
                if head == 0:
                    axis.set_ylabel(f"L{layer}\nRTG {target:g}", fontsize=7)
                if layer == layers[0] and target == stage.high:
                    axis.set_title(f"head {head}", fontsize=8, loc="center")
    figure.suptitle(
        "Attention by modality: query kind (rows) to key kind (columns), mean over layouts",
        fontsize=9, fontweight="bold", x=0.01, ha="left",
    )  # fmt: skip
    figure.colorbar(image, ax=list(axes.values()), shrink=0.4, pad=0.01, aspect=30)
    report.figure("modality", figure)


def _moved(report: Report, results: Results, stage: Attention) -> None:
    """Total variation against the high target: by target and layer, and by head at the low target."""
    table = results.moved
    layers, heads = (sorted(table[name].unique()) for name in ("layer", "head"))
    figure, axes = new(7.0, 3.2, mosaic=[["curve", "heads"]], width_ratios=[1.1, 1])
    trained = table[table.model == "trained"]
    colours = ["#1d3557", "#2a9d5c", "#e9a23b", "#d1495b", "#8d5fb9", "#5b8fb9"]
    for layer in layers:
        colour = colours[layer % len(colours)]
        mine = trained[trained.layer == layer].groupby("target").total_variation.mean()
        others = table[(table.model != "trained") & (table.layer == layer)]
        worst = others.groupby(["target", "model"]).total_variation.mean().groupby("target").max()
        axes["curve"].plot(mine.index, mine, "o-", color=colour, ms=3.5, label=f"layer {layer}")
        axes["curve"].plot(worst.index, worst, ":", color=colour, lw=1.2)
    axes["curve"].set(
        xlabel="reward-to-go",
        ylabel=f"total variation against {stage.high:g}",
        title="How far reward-to-go moves attention",
        ylim=(0, None),
    )
    axes["curve"].legend(title="dotted: largest of untrained", title_fontsize=7, fontsize=7)
    at_low = trained[trained.target == stage.low]
    matrix = at_low.groupby(["layer", "head"]).total_variation.mean().unstack("head")
    axis = axes["heads"]
    axis.imshow(matrix, cmap=MAP, vmin=0, vmax=max(float(matrix.max().max()), 0.01), aspect="auto")
    half = float(matrix.max().max()) / 2
    for layer in layers:
        for head in heads:
            value = matrix.loc[layer, head]
            axis.text(
                head, layer, f"{value:.2f}"[1:] if value < 1 else "1",
                ha="center", va="center", fontsize=8, color="white" if value > half else "black",
            )  # fmt: skip
    axis.set_xticks(range(len(heads)), heads)
    axis.set_yticks(range(len(layers)), layers)
    axis.set(xlabel="head", ylabel="layer", title=f"From {stage.high:g} to {stage.low:g}, by head")
    axis.grid(False)
    report.figure("moved", figure)


def _maps(report: Report, results: Results, stage: Attention) -> None:
    """Maps over the trajectory of the three heads that reward-to-go moves most, in the first layout."""
    moved = results.moved[(results.moved.model == "trained") & (results.moved.target == stage.low)]
    top = moved.groupby(["layer", "head"]).total_variation.mean().nlargest(3).index.tolist()
    names = results.tokens.names
    mosaic = [[f"{layer}/{head}/{t:g}" for layer, head in top] for t in (stage.high, stage.low)]
    figure, axes = new(7.0, 5.1, mosaic=mosaic)
    first = max(int(np.flatnonzero(results.tokens.real)[0]) - 1, 0)
    shown = names[first:]
    for layer, head in top:
        for target in (stage.high, stage.low):
            axis = axes[f"{layer}/{head}/{target:g}"]
            at = stage.targets.index(target)
            pattern = results.pattern[at, 0, layer, head, first:, first:]
            axis.imshow(np.where(np.tri(len(shown)), pattern, np.nan), vmin=0, vmax=1, cmap=MAP)
            axis.set_xticks(range(len(shown)), shown, fontsize=6, rotation=90)
            axis.set_yticks(range(len(shown)), shown, fontsize=6)
            axis.tick_params(length=0, pad=1)
            axis.grid(False)
            axis.set_title(f"L{layer}H{head}, RTG {target:g}", fontsize=8)
    layout = results.maps.layout.iloc[0]
    figure.suptitle(
        f"The heads that reward-to-go moves most: query (rows) to key, layout {layout}",
        fontsize=9, fontweight="bold", x=0.01, ha="left",
    )  # fmt: skip
    report.figure("maps", figure)
