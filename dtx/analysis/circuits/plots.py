"""The figures: what heads prefer by modality, how many directions they use, and which compose."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dtx.analysis.circuits.spec import TRAINED, UNTRAINED
from dtx.analysis.core.notes import controls, note
from dtx.analysis.core.plots import MODEL_COLOURS, headline, heatmap, limit_of
from dtx.analysis.core.result import Result
from dtx.dt.names import head_name
from dtx.figures import PHONE, new
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
    tall = 0.9 + 0.17 * max(len(names), 8)
    scores, ranks_row = list(panels), ["QK", *["OV"] * (len(panels) - 1)]
    if len(panels) == 3:  # the ranks' panels are equally wide
        scores, ranks_row = [p for p in panels for _ in "ab"], ["QK"] * 3 + ["OV"] * 3
    figure, axes = new(PHONE, 2 * tall, mosaic=[scores, ranks_row])
    limit = limit_of(heads.preference)
    image = None
    for panel, (model, target) in panels.items():
        rows = heads[(heads.model == model) & (heads.target.fillna(-1) == target)]
        grid = rows.pivot(index="name", columns="pair", values="preference").loc[names, pairs]
        image = heatmap(axes[panel], grid, names, pairs, limit=limit)
        if panel != next(iter(panels)):
            axes[panel].set_yticks(range(len(names)), [])
        axes[panel].set_title(panel.replace(", ", ",\n"), fontsize=8)
    figure.colorbar(
        image, ax=[axes[panel] for panel in panels], location="bottom", shrink=0.7, pad=0.02,
        label="score less the query's mean, before softmax",
    )  # fmt: skip
    singular = result.tables["singular"]
    ranks = singular.groupby(["model", "circuit", "layer", "head"]).value.apply(effective_rank)
    for circuit in ("QK", "OV"):
        _ranks(axes[circuit], ranks, circuit, names if circuit == "QK" else [""] * len(names))
    handles, labels = axes["OV"].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, markerscale=1.2)
    own = modality[modality.model == TRAINED]
    first = own.loc[own.preference.abs().idxmax()]
    qk, untrained = (result.metrics[f"qk_effective_rank{name}"] for name in ("", "_untrained"))
    verb = "prefers" if first.preference > 0 else "avoids"
    text = (
        f"{head_name(int(first.layer), int(first['head']))} {verb} a kind of token most: "
        f"{first['query']} to {first.key} {first.preference:+.1f}; QK effective rank {qk:.0f} "
        f"(untrained {untrained:.0f})"
    )
    headline(
        figure,
        result,
        text,
        note("query\u2192key: R reward-to-go, S state, A action", controls(result)),
    )
    return figure


def _panels(modality: pd.DataFrame) -> dict[str, tuple[str, float]]:
    """Titles of the panels of scores: the model at its lowest and highest reward-to-go, the untrained one."""
    targets = sorted(modality.target.fillna(-1).unique())
    ends = list(dict.fromkeys((targets[0], targets[-1])))
    shown = [(TRAINED, target) for target in ends] + [(UNTRAINED, ends[-1])]
    return {f"{m}, RTG {t:g}" if t >= 0 else f"scores, {m}": (m, t) for m, t in shown}


def _ranks(axis: Axes, ranks: pd.Series, circuit: str, names: list[str]) -> None:
    for model, colour in MODEL_COLOURS.items():
        value = ranks[model, circuit].to_numpy()
        mark = "o" if model == TRAINED else "v"
        axis.scatter(value, range(len(names)), s=20, marker=mark, color=colour, label=model)
    axis.set_yticks(range(len(names)), names, fontsize=7.5)
    axis.set(
        title=f"{circuit} rank", xlim=(0, 1.08 * float(ranks.max())), ylim=(len(names) - 0.5, -0.5)
    )
    axis.set_xlabel("effective rank", fontsize=8)


def composition(result: Result) -> Figure:
    """One panel a model and kind of input: what a head writes (row) that a later head reads (column)."""
    table = result.tables["composition"]
    kinds = ("Q", "K", "V")
    figure, axes = new(
        PHONE, 6.6, mosaic=[[f"{m} {k}" for m in (TRAINED, UNTRAINED)] for k in kinds]
    )
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
                range(0, len(targets), step), targets[::step], rotation=90, fontsize=7.5
            )
            axis.set_yticks(range(0, len(sources), step), sources[::step], fontsize=7.5)
            axis.set_title(f"{kind}, {model}", fontsize=9)
    figure.colorbar(image, ax=list(axes.values()), shrink=0.6, label="composition score")
    claim = next(claim for claim in result.claims if claim.id == "heads_compose")
    about = "row: the head that writes, column: the later head that reads it as query, key or value"
    headline(figure, result, f"Heads compose: {claim.verdict.value}. {claim.evidence}", about)
    return figure
