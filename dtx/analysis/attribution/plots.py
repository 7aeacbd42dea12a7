"""The logit difference in parts: by window, ranked, by cell of the view, by neuron."""

from __future__ import annotations

import numpy as np

from dtx.analysis.attribution import Attribution
from dtx.analysis.attribution.compute import Results
from dtx.figures import new
from dtx.report import Report
from dtx.statistics import bootstrap

COLUMNS = 16
"""Windows that a picture has room for; the table has all."""
KIND_COLOURS = {"state": "#2a9d5c", "head": "#3a6ea5", "mlp": "#d1803a", "embedding": "#8d99ae"}


def draw(report: Report, results: Results, stage: Attribution) -> None:
    """Draw the PNG and the interactive page."""
    rows, value_pb = rows_of(results)
    labels = [
        f"{layout or 'window'} {target:.2g}"
        for layout, target in zip(results.frame.layout, results.frame.target, strict=True)
    ]
    _png(report, results, stage, rows, value_pb[:, :COLUMNS], labels[:COLUMNS])
    _html(report, stage, rows, value_pb, labels)


def rows_of(results: Results) -> tuple[list[str], np.ndarray]:
    """Names (p,) and values (p, b) of the components, with all biases as one."""
    attributed = results.attributed
    value_bp = attributed.component_kbp[0].numpy()
    kept = [i for i, kind in enumerate(attributed.kinds) if kind != "bias"]
    biases = [i for i, kind in enumerate(attributed.kinds) if kind == "bias"]
    rows = [attributed.names[i] for i in kept] + ["all biases"]
    return rows, np.concatenate([value_bp[:, kept], value_bp[:, biases].sum(1, keepdims=True)], 1).T


def _png(
    report: Report,
    results: Results,
    stage: Attribution,
    rows: list[str],
    value_pb: np.ndarray,
    labels: list[str],
) -> None:
    height = max(7.0, 1.6 + 0.17 * len(rows))
    figure, axes = new(
        7.0,
        height,
        mosaic=[["windows", "ranking"], ["windows", "neurons"], ["windows", "cells"]],
        width_ratios=[1.25, 1],
        height_ratios=[1.1, 1, 1.15],
    )
    figure.suptitle(
        f"Direct attribution of logit {stage.contrast}",
        fontsize=10,
        fontweight="bold",
        x=0.02,
        ha="left",
    )
    main = axes["windows"]
    limit = float(np.abs(value_pb).max()) or 1.0
    image = main.imshow(value_pb, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    main.set_yticks(range(len(rows)), rows, fontsize=7)
    main.set_xticks(range(len(labels)), labels, rotation=90, fontsize=7)
    main.set(title="by window: layout and RTG")
    main.grid(False)
    figure.colorbar(image, ax=main, location="bottom", shrink=0.7, pad=0.01, label="logits")
    _ranking(axes["ranking"], results, stage)
    _neurons(axes["neurons"], results, stage)
    _cells(figure, axes["cells"], results)
    report.figure("attribution", figure)


def _ranking(axis, results: Results, stage: Attribution) -> None:
    top = results.ranking[results.ranking.kind != "bias"].head(stage.shown)[::-1]
    error = np.stack([top.support - top.low, top.high - top.support])
    colours = [KIND_COLOURS[kind] for kind in top.kind]
    axis.barh(top.component, top.support, xerr=error, color=colours, error_kw={"lw": 0.8})
    random = float(top.random_95.iloc[0])
    axis.axvline(random, color="#333", lw=1, ls="--", label="random directions, 95%")
    axis.tick_params(axis="y", labelsize=7)
    axis.set(title="components: support", xlabel="logits towards the choice made")
    axis.legend(loc="lower right", fontsize=7)


def _neurons(axis, results: Results, stage: Attribution) -> None:
    sign_b = results.attributed.difference_b.sign().numpy()
    support_blf = results.attributed.neuron_blf.numpy() * sign_b[:, None, None]
    mean_lf = support_blf.mean(0)
    order = np.argsort(-np.abs(mean_lf), axis=None)[: stage.shown][::-1]
    layer, neuron = np.unravel_index(order, mean_lf.shape)
    mean = mean_lf[layer, neuron]
    ends = [
        bootstrap(support_blf[:, i, f], stage.resamples, stage.seed)
        for i, f in zip(layer, neuron, strict=True)
    ]
    error = np.abs(np.array(ends).T - mean)
    names = [f"MLP{i} neuron {f}" for i, f in zip(layer, neuron, strict=True)]
    axis.barh(names, mean, xerr=error, color=KIND_COLOURS["mlp"], error_kw={"lw": 0.8})
    axis.axvline(0, color="#333", lw=0.7)
    axis.tick_params(axis="y", labelsize=7)
    axis.set(title="neurons: support", xlabel="logits towards the choice made")


def _cells(figure, axis, results: Results) -> None:
    sign_b = results.attributed.difference_b.sign().numpy()[:, None]
    support_c = (results.attributed.channel_bc.numpy() * sign_b).mean(0)
    cell_xy = support_c.reshape(20, 7, 7).sum(0)
    limit = float(np.abs(cell_xy).max()) or 1.0
    image = axis.imshow(cell_xy.T, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axis.plot(3, 6, marker="^", color="#333", ms=6)
    axis.set_xticks(range(7))
    axis.set_yticks(range(7))
    axis.set(title="last view, by cell: support", xlabel="column (the agent is the triangle)")
    axis.grid(False)
    figure.colorbar(image, ax=axis, shrink=0.8, label="logits")


def _html(
    report: Report, stage: Attribution, rows: list[str], value_pb: np.ndarray, labels: list[str]
) -> None:
    import plotly.graph_objects as go

    limit = float(np.abs(value_pb).max()) or 1.0
    figure = go.Figure(
        go.Heatmap(
            z=value_pb,
            x=[f"{i}: {label}" for i, label in enumerate(labels)],
            y=rows,
            colorscale="RdBu_r",
            zmin=-limit,
            zmax=limit,
            hovertemplate="%{y}<br>%{x}<br>%{z:.3f} logits<extra></extra>",
        )
    )
    figure.update_layout(
        template="plotly_white",
        title=f"Direct attribution of logit {stage.contrast}, by window",
        yaxis={"autorange": "reversed"},
        height=max(500, 90 + 20 * len(rows)),
    )
    report.page("attribution", figure)
