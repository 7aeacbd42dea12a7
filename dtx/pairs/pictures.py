"""One page of pictures for each few worlds: clean and corrupt world, and what the agent sees of them."""

from __future__ import annotations

import numpy as np

from dtx.dt.tokens import KINDS, kind_of
from dtx.pairs.making import NULL, Made, changed
from dtx.pairs.runs import Run, view_picture
from dtx.report import Report

PER_PAGE = 2
"""Worlds side by side, so that a telephone shows them."""
PIXELS = 112
"""Of a side of each picture: 16 for each cell of a view."""


def draw(report: Report, made: Made) -> None:
    """Figures ``pairs``, ``pairs_2`` ...: a row an edit, a column a world.

    The reward-to-go does not show in a world, so each world and edit is drawn once, with its first target.
    """
    shown: dict[tuple[str, str], dict] = {}
    for pair in made.pairs:
        if pair["kind"] in ("edit", NULL):
            shown.setdefault((pair["edit"], pair["variant"]), pair)
    variants = list(dict.fromkeys(variant for _, variant in shown))
    edits = list(dict.fromkeys(edit for edit, _ in shown))
    for page, begin in enumerate(range(0, len(variants), PER_PAGE), 1):
        _page(
            report,
            "pairs" if page == 1 else f"pairs_{page}",
            made.runs,
            shown,
            edits,
            variants[begin : begin + PER_PAGE],
        )


def _page(
    report: Report,
    name: str,
    runs: list[Run],
    shown: dict[tuple[str, str], dict],
    edits: list[str],
    variants: list[str],
) -> None:
    from dtx import figures

    mosaic = [[f"{edit}/{variant}" for variant in variants] for edit in edits]
    figure, axes = figures.new(figures.PHONE, 2.1 * len(edits), mosaic=mosaic)
    for edit in edits:
        for variant in variants:
            axis = axes[f"{edit}/{variant}"]
            axis.set_xticks([])
            axis.set_yticks([])
            axis.grid(False)
            for spine in axis.spines.values():
                spine.set_visible(False)
            if variant == variants[0]:
                axis.set_ylabel(edit.replace("_", " "), fontsize=8)
            if edit == edits[0]:
                axis.set_title(variant)
            if (edit, variant) not in shown:
                axis.text(0.5, 0.5, "rejected", ha="center", transform=axis.transAxes)
                continue
            pair = shown[edit, variant]
            clean, corrupt = runs[pair["clean"]], runs[pair["corrupt"]]
            image, caption = _four(clean, corrupt)
            axis.imshow(image, interpolation="nearest")
            axis.set_xlabel(caption, fontsize=8)
    figures.headline(
        figure,
        f"{len(edits)} edits in {len(variants)} layouts: clean run left, corrupt run right",
        "above: the world at the start, what the agent sees highlighted; below: its view at the first state "
        "that differs; rejected: an edit that this layout cannot have",
    )
    report.figure(name, figure)


def _four(clean: Run, corrupt: Run) -> tuple[np.ndarray, str]:
    """Clean beside corrupt, world over view at the first state that differs, and what to write below."""
    names = changed(clean, corrupt)
    states = [int(name[1:]) for name in names if name[0] == "S"]
    at = states[0] if states else len(clean.observations)
    pixels = PIXELS
    rows = [
        [_sized(run.picture, pixels) for run in (clean, corrupt)],
        [
            _sized(view_picture(clean.observations[at - 1]), pixels),
            _sized(view_picture(corrupt.observations[at - 1]), pixels),
        ],
    ]
    gap = max(2, pixels // 16)
    joined = [_beside([a, b], gap) for a, b in rows]
    return _beside([x.swapaxes(0, 1) for x in joined], gap).swapaxes(0, 1), _caption(names, at)


def _caption(names: list[str], at: int) -> str:
    kinds = {kind: [n for n in names if kind_of(n) == kind] for kind in KINDS}
    parts = []
    for kind, those in kinds.items():
        if those:
            numbers = [name[1:] for name in those]
            run = len(numbers) > 2 and int(numbers[-1]) - int(numbers[0]) == len(numbers) - 1
            parts.append(f"{kind}{numbers[0]}-{numbers[-1]}" if run else " ".join(those))
    differs = ", ".join(parts) if len(" ".join(parts)) <= 16 else f"{len(names)} tokens"
    return f"view S{at}; differs: {differs or 'nothing'}"


def _beside(images: list[np.ndarray], gap: int) -> np.ndarray:
    white = np.full((images[0].shape[0], gap, 3), 255, np.uint8)
    return np.concatenate([images[0], white, images[1]], axis=1)


def _sized(image: np.ndarray, pixels: int) -> np.ndarray:
    """A square image scaled to a number of pixels by repeating or leaving out rows and columns."""
    index = np.arange(pixels) * image.shape[0] // pixels
    return image[index][:, index]
