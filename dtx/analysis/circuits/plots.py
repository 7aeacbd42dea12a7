"""What heads prefer by modality, how many directions they use, and which compose."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dtx.analysis.circuits.compute import TRAINED, UNTRAINED, effective_rank
from dtx.figures import new
from dtx.report import Report

COLOURS = {TRAINED: "#3a6ea5", UNTRAINED: "#b9bfcc"}


def draw(report: Report, tables: dict[str, pd.DataFrame]) -> None:
    """Two figures: ``circuits`` (modality and rank) and, with several layers, ``composition``."""
    _circuits(report, tables["modality"], tables["singular"])
    if len(tables["composition"]):
        _composition(report, tables["composition"])


def _circuits(report: Report, modality: pd.DataFrame, singular: pd.DataFrame) -> None:
    heads = modality.assign(
        name="L" + modality["layer"].astype(str) + "H" + modality["head"].astype(str),
        pair=modality["query"] + "\u2192" + modality["key"],
    )
    names, pairs = list(dict.fromkeys(heads.name)), list(dict.fromkeys(heads.pair))
    figure, axes = new(
        7.0,
        max(3.4, 1.3 + 0.19 * len(names)),
        mosaic=[[TRAINED, UNTRAINED, "QK", "OV"]],
        width_ratios=[1.5, 1.5, 1, 1],
    )
    limit = float(heads.preference.abs().max()) or 1.0
    image = None
    for model in (TRAINED, UNTRAINED):
        axis, mine = axes[model], heads[heads.model == model]
        grid = mine.pivot(index="name", columns="pair", values="preference").loc[names, pairs]
        image = axis.imshow(grid, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
        axis.set_xticks(range(len(pairs)), pairs, rotation=90, fontsize=7)
        axis.set_yticks(range(len(names)), names if model == TRAINED else [], fontsize=7)
        axis.set(title=f"scores, {model}")
        axis.grid(False)
    figure.colorbar(
        image, ax=[axes[TRAINED], axes[UNTRAINED]], location="bottom", shrink=0.7, pad=0.02,
        label="score less the query's mean (query\u2192key)",
    )  # fmt: skip
    ranks = singular.groupby(["model", "circuit", "layer", "head"]).value.apply(effective_rank)
    widest = 1.08 * float(ranks.max())
    for circuit in ("QK", "OV"):
        axis = axes[circuit]
        for model, colour in COLOURS.items():
            value = ranks[model, circuit].to_numpy()
            axis.scatter(value, range(len(names)), s=18, color=colour, label=model)
        axis.set_yticks(range(len(names)), [])
        axis.set(title=f"{circuit} rank", xlim=(0, widest), ylim=(len(names) - 0.5, -0.5))
        axis.set_xlabel("effective rank", fontsize=8)
    figure.legend(
        *axes["OV"].get_legend_handles_labels(), loc="lower right", ncols=1, markerscale=1.2
    )
    report.figure("circuits", figure)


def _composition(report: Report, composition: pd.DataFrame) -> None:
    kinds = ("Q", "K", "V")
    figure, axes = new(7.0, 5.2, mosaic=[[f"{m} {k}" for k in kinds] for m in (TRAINED, UNTRAINED)])
    figure.suptitle(
        "Composition: what a head writes (row), a later head reads (column)",
        fontsize=10, fontweight="bold", x=0.02, ha="left",
    )  # fmt: skip
    sources = list(dict.fromkeys(composition.source))
    targets = list(dict.fromkeys(composition.target))
    limit, image = float(composition.score.max()), None
    for model in (TRAINED, UNTRAINED):
        for kind in kinds:
            axis = axes[f"{model} {kind}"]
            mine = composition[(composition.model == model) & (composition.kind == kind)]
            grid = mine.pivot(index="source", columns="target", values="score")
            grid = grid.reindex(index=sources, columns=targets)
            image = axis.imshow(np.ma.masked_invalid(grid), cmap="viridis", vmin=0, vmax=limit)
            step = max(1, len(sources) // 8)
            axis.set_xticks(
                range(0, len(targets), step), targets[::step], rotation=90, fontsize=6.5
            )
            axis.set_yticks(range(0, len(sources), step), sources[::step], fontsize=6.5)
            axis.set(title=f"{kind}, {model}")
            axis.grid(False)
    figure.colorbar(image, ax=list(axes.values()), shrink=0.6, label="composition score")
    report.figure("composition", figure)
