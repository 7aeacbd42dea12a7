"""Judge the claims of the MemoryDT study over several seeds, each with its own agent, demonstrations and DT.

What is in the store is reused.

    python experiments/memory_dt/claims.py                # seeds 200-204: claims.md, claims.json, figures/
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from study import arguments, composed, run

from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.result import Verdict
from dtx.figures import BLUE, FAINT, GREY, ORANGE, PHONE, SOFT, VERMILION, headline, new
from dtx.report import Report
from dtx.store.store import Store, use

STUDY = {  # what the study says, and where dtx judges it: analysis, id of the claim
    "a set routine": ("psychology", "set_routine"),
    "one decision square": ("psychology", "one_decision_square"),
    "the decision is cached in the turn": ("psychology", "decision_cached"),
    "at RTG 0, mass on non-kinetic actions": ("psychology", "non_kinetic_mass"),
    "looks back in one of four layouts near RTG .9": ("psychology", "looks_back"),
    "attention in layer 0 is specific to modalities": ("attention", "specific_to_modalities"),
    "reward-to-go moves that attention": ("attention", "reward_to_go_moves_attention"),
    "congruence of left, right, forward grows with layer": (
        "congruence",
        "congruence_grows_with_layer",
    ),
    "state patching moves from the instruction's token to the last state": (
        "activation_patching",
        "instruction_flip_moves",
    ),
    "RTG patching is collected by an MLP": ("activation_patching", "rtg_zero_collected"),
    "teacher and DT agree": ("teacher", "teacher_and_model_agree"),
    "retarget: RTG switched off": ("steering", "rtg_off"),
    "retarget: RTG only when the instruction is a key": ("steering", "rtg_only_if_key"),
    "retarget: always look back": ("steering", "always_look_back"),
}
COLOURS = {
    Verdict.CONFIRMED.value: (BLUE, "yes"),
    Verdict.DEPENDS.value: (ORANGE, "part"),
    Verdict.NOT_CONFIRMED.value: (VERMILION, "no"),
    Verdict.NOT_DECIDED.value: (GREY, "?"),
    Verdict.NOT_ESTABLISHED.value: (SOFT, "control"),
    Verdict.NOT_APPLICABLE.value: (FAINT, "-"),
}
"""Of verdicts; and a word in each cell, so that colour does not stand alone."""


def main() -> int:
    """Run, collect, write."""
    parser = arguments(__doc__, "memory_dt_claims")
    parser.set_defaults(seeds=list(range(200, 205)))
    chosen = parser.parse_args()
    if not run(chosen):
        return 2
    judged = collect(chosen)
    chosen.out.mkdir(parents=True, exist_ok=True)
    write(chosen.out, judged)
    draw(chosen.out, judged)
    return 0


def collect(chosen: argparse.Namespace) -> pd.DataFrame:
    """One row a claim of the study and seed: says, seed, criterion, evidence, verdict."""
    use(Store(chosen.store))
    rows = []
    for seed in chosen.seeds:
        analyses = composed(seed, chosen).targets
        for says, (name, claim_id) in STUDY.items():
            analysis = analyses[name]
            assert isinstance(analysis, Analysis)
            result = analysis.result()
            claims = {claim.id: claim for claim in result.claims}
            if claim_id in claims:
                claim = claims[claim_id]
                evidence = claim.evidence if result.established else result.summary
                rows.append((says, seed, claim.criterion, evidence, claim.verdict.value))
            else:
                rows.append((says, seed, "", result.summary, Verdict.NOT_ESTABLISHED.value))
    return pd.DataFrame(rows, columns=["says", "seed", "criterion", "evidence", "verdict"])


def over_seeds(verdicts: Iterable[str]) -> str:
    """The verdict of all seeds, or how many have each: verdicts are not averaged."""
    counts = Counter(verdicts).most_common()
    if len(counts) == 1:
        return counts[0][0]
    return ", ".join(f"{verdict} {number}" for verdict, number in counts)


def write(
    out: Path, judged: pd.DataFrame, name: str = "claims", who: str = "the study says"
) -> None:
    """NAME.json, and NAME.md: a table of verdicts under ``who``, then every seed's numbers."""
    (out / f"{name}.json").write_text(judged.to_json(orient="records", indent=1) + "\n")
    seeds = judged["seed"].drop_duplicates().tolist()
    lines = [
        f"| {who} | over {len(seeds)} seeds |" + "".join(f" {seed} |" for seed in seeds),
        "|---|---|" + "---|" * len(seeds),
    ]
    for says, rows in judged.groupby("says", sort=False):
        cells = "".join(f" {verdict} |" for verdict in rows["verdict"])
        lines.append(f"| {says} | **{over_seeds(rows['verdict'])}** |{cells}")
    for says, rows in judged.groupby("says", sort=False):
        lines += ["", f"## {str(says)[0].upper()}{str(says)[1:]}", ""]
        if rows["criterion"].iloc[0]:
            lines += [f"Criterion: {rows['criterion'].iloc[0]}.", ""]
        lines += [f"- seed {row.seed}: {row.verdict}. {row.evidence}" for row in rows.itertuples()]
    (out / f"{name}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines[: 2 + judged["says"].nunique()]))


def draw(out: Path, judged: pd.DataFrame) -> None:
    """Claims by seed, coloured by verdict."""
    grid = judged.pivot(index="says", columns="seed", values="verdict").loc[list(STUDY)]
    figure, axes = new(PHONE, 0.36 * len(grid) + 1.4, mosaic=[["claims"]])
    axis = axes["claims"]
    for y, verdicts in enumerate(grid.to_numpy()):
        for x, verdict in enumerate(verdicts):
            axis.barh(y, 0.92, left=x + 0.04, height=0.84, color=COLOURS[verdict][0])
            axis.text(
                x + 0.5,
                y,
                COLOURS[verdict][1],
                ha="center",
                va="center",
                fontsize=8,
                color=_ink(verdict),
            )
    axis.set(
        yticks=range(len(grid)),
        yticklabels=[textwrap.fill(str(says), 30) for says in grid.index],
        xticks=[x + 0.5 for x in range(grid.shape[1])],
        xticklabels=[str(seed) for seed in grid.columns],
        xlabel="seed",
        xlim=(0, grid.shape[1]),
    )
    axis.invert_yaxis()
    axis.grid(False)
    axis.tick_params(length=0, labelsize=8)
    axis.spines[:].set_visible(False)
    for verdict, (colour, word) in COLOURS.items():
        axis.bar(0, 0, color=colour, label=f"{word}: {verdict}")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    confirmed = (grid == Verdict.CONFIRMED.value).all(axis=1).sum()
    seeds = grid.shape[1]
    headline(
        figure,
        f"{confirmed} of {len(grid)} statements of the study are confirmed at every one of {seeds} seeds",
        "each seed has its own agent, demonstrations and DT; what the statements need: claims.md",
    )
    Report(out).figure("claims_over_seeds", figure)


def _ink(verdict: str) -> str:
    """The colour of a word on a verdict's colour."""
    dark = (Verdict.CONFIRMED, Verdict.NOT_CONFIRMED, Verdict.NOT_ESTABLISHED)
    return "white" if verdict in [each.value for each in dark] else "black"


if __name__ == "__main__":
    sys.exit(main())
