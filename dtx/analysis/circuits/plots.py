"""The figures: what heads prefer by modality, how many directions they use, and which compose."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtx.analysis.circuits.spec import TRAINED, UNTRAINED
from dtx.analysis.core.plots import MODEL_COLOURS, heatmap, limit_of, title
from dtx.analysis.core.result import Result
from dtx.figures import new
from dtx.statistics import effective_rank


def circuits(result: Result) -> Figure:
    """One row a head: scores by modality of the model and of an untrained one, and effective ranks."""
    modality = result.tables["modality"]
    heads = modality.assign(
        name="L" + modality["layer"].astype(str) + "H" + modality["head"].astype(str),
        pair=modality["query"] + "\u2192" + modality["key"],
    )
    names, pairs = list(dict.fromkeys(heads.name)), list(dict.fromkeys(heads.pair))
    panels = _panels(modality)
    figure, axes = new(
        7.0,
        max(3.4, 1.3 + 0.19 * len(names)),
        mosaic=[[*panels, "QK", "OV"]],
        width_ratios=[*(1.3 for _ in panels), 1, 1],
    )
    limit = limit_of(heads.preference)
    image = None
    for panel, (model, target) in panels.items():
        rows = heads[(heads.model == model) & (heads.target.fillna(-1) == target)]
        grid = rows.pivot(index="name", columns="pair", values="preference").loc[names, pairs]
        image = heatmap(axes[panel], grid, names, pairs, limit=limit)
        if panel != next(iter(panels)):
            axes[panel].set_yticks(range(len(names)), [])
        axes[panel].set_title(panel, fontsize=8)
    figure.colorbar(
        image, ax=[axes[panel] for panel in panels], location="bottom", shrink=0.7, pad=0.02,
        label="score less the query's mean (query\u2192key)",
    )  # fmt: skip
    singular = result.tables["singular"]
    ranks = singular.groupby(["model", "circuit", "layer", "head"]).value.apply(effective_rank)
    for circuit in ("QK", "OV"):
        _ranks(axes[circuit], ranks, circuit, len(names))
    handles, labels = axes["OV"].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower right", ncols=1, markerscale=1.2)
    return figure


def _panels(modality: pd.DataFrame) -> dict[str, tuple[str, float]]:
    """Titles of the panels of scores: the model at its lowest and highest reward-to-go, the untrained one."""
    targets = sorted(modality.target.fillna(-1).unique())
    ends = list(dict.fromkeys((targets[0], targets[-1])))
    shown = [(TRAINED, target) for target in ends] + [(UNTRAINED, ends[-1])]
    return {f"{m}, RTG {t:g}" if t >= 0 else f"scores, {m}": (m, t) for m, t in shown}


def _ranks(axis: Axes, ranks: pd.Series, circuit: str, heads: int) -> None:
    for model, colour in MODEL_COLOURS.items():
        value = ranks[model, circuit].to_numpy()
        axis.scatter(value, range(heads), s=18, color=colour, label=model)
    axis.set_yticks(range(heads), [])
    axis.set(title=f"{circuit} rank", xlim=(0, 1.08 * float(ranks.max())), ylim=(heads - 0.5, -0.5))
    axis.set_xlabel("effective rank", fontsize=8)


def composition(result: Result) -> Figure:
    """One panel a model and kind of input: what a head writes (row) that a later head reads (column)."""
    table = result.tables["composition"]
    kinds = ("Q", "K", "V")
    figure, axes = new(7.0, 5.2, mosaic=[[f"{m} {k}" for k in kinds] for m in (TRAINED, UNTRAINED)])
    title(figure, "Composition: what a head writes (row), a later head reads (column)")
    sources, targets = list(dict.fromkeys(table.source)), list(dict.fromkeys(table.target))
    limit, image = limit_of(table.score), None
    step = max(1, len(sources) // 8)
    for model in (TRAINED, UNTRAINED):
        for kind in kinds:
            axis = axes[f"{model} {kind}"]
            rows = table[(table.model == model) & (table.kind == kind)]
            grid = rows.pivot(index="source", columns="target", values="score")
            grid = grid.reindex(index=sources, columns=targets)
            image = heatmap(axis, grid, (), (), limit=limit, cmap="viridis", low=0, aspect="equal")
            axis.set_xticks(
                range(0, len(targets), step), targets[::step], rotation=90, fontsize=6.5
            )
            axis.set_yticks(range(0, len(sources), step), sources[::step], fontsize=6.5)
            axis.set(title=f"{kind}, {model}")
    figure.colorbar(image, ax=list(axes.values()), shrink=0.6, label="composition score")
    return figure
