"""Judge the claims of the MemoryDT study over several seeds, each with its own agent, demonstrations and DT.

What is in the store is reused.

    python experiments/memory_dt/claims.py                # seeds 0-4: claims.md, claims.json, figures/
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from study import arguments, composed, run

from dtx.analysis.core.claims import CLAIMS, CONFIRMED, DEPENDS, NOT_CONFIRMED, read_claims
from dtx.figures import new
from dtx.report import Report
from dtx.store.store import Store, use

NOT_ESTABLISHED = "not established"
STUDY = {  # what the study says, and where (analysis, beginning of the claim) dtx judges it
    "a set routine": ("psychology", "a set routine"),
    "one decision square": ("psychology", "one decision square"),
    "the decision is cached in the turn": ("psychology", "the decision is cached"),
    "at RTG 0, mass on non-kinetic actions": ("psychology", "mass on non-kinetic"),
    "looks back in one of four layouts near RTG .9": ("psychology", "looks back"),
    "attention in layer 0 is specific to modalities": ("attention", "attention in layer 0"),
    "reward-to-go moves that attention": ("attention", "reward-to-go moves"),
    "congruence of left, right, forward grows with layer": ("congruence", "congruence"),
    "state patching moves from the instruction's token to the last state": (
        "activation_patching",
        "instruction_flip moves",
    ),
    "RTG patching is collected by an MLP": ("reward_to_go_patching", "rtg_zero is collected"),
    "teacher and DT agree": ("teacher", "teacher and model agree"),
    "retarget: RTG switched off": ("steering", "RTG behaviour can be switched"),
    "retarget: RTG only when the instruction is a key": ("steering", "RTG behaviour can be kept"),
    "retarget: always look back": ("steering", "it can be made to look back"),
}
COLOURS = {
    CONFIRMED: "#2a9d5c",
    DEPENDS: "#e9a23b",
    NOT_CONFIRMED: "#d1495b",
    NOT_ESTABLISHED: "#c9ced8",
}


def main() -> int:
    """Run, collect, write."""
    chosen = arguments(__doc__, "memory_dt_claims").parse_args()
    if not run(chosen):
        return 2
    judged = collect(chosen)
    chosen.out.mkdir(parents=True, exist_ok=True)
    write(chosen.out, judged)
    draw(chosen.out, judged)
    return 0


def collect(chosen: argparse.Namespace) -> pd.DataFrame:
    """One row a claim of the study and seed: says, seed, wanted, found, verdict."""
    use(Store(chosen.store))
    rows = []
    for seed in chosen.seeds:
        analyses = composed(seed, chosen).targets
        for says, (analysis, begins) in STUDY.items():
            path = analyses[analysis].path
            mine = read_claims(path) if (path / CLAIMS).exists() else []
            found = next((c for c in mine if c.claim.startswith(begins)), None)
            if found is None:
                rows.append((says, seed, "", analyses[analysis].summary(), NOT_ESTABLISHED))
            else:
                rows.append((says, seed, found.wanted, found.found, found.verdict))
    return pd.DataFrame(rows, columns=["says", "seed", "wanted", "found", "verdict"])


def over_seeds(verdicts: Iterable[str]) -> str:
    """Confirmed or not if all seeds say so; else it depends on the seed."""
    kinds = {verdict.split(":")[0] for verdict in verdicts}
    return kinds.pop() if len(kinds) == 1 else DEPENDS


def write(out: Path, judged: pd.DataFrame) -> None:
    """claims.json, and claims.md: a table of verdicts, then every seed's numbers."""
    (out / "claims.json").write_text(judged.to_json(orient="records", indent=1) + "\n")
    seeds = judged["seed"].drop_duplicates().tolist()
    lines = [
        f"| the study says | over {len(seeds)} seeds |" + "".join(f" {seed} |" for seed in seeds),
        "|---|---|" + "---|" * len(seeds),
    ]
    for says, mine in judged.groupby("says", sort=False):
        cells = "".join(f" {verdict.split(':')[0]} |" for verdict in mine["verdict"])
        lines.append(f"| {says} | **{over_seeds(mine['verdict'])}** |{cells}")
    for says, mine in judged.groupby("says", sort=False):
        lines += ["", f"## {str(says)[0].upper()}{str(says)[1:]}", ""]
        if mine["wanted"].iloc[0]:
            lines += [f"Wanted: {mine['wanted'].iloc[0]}.", ""]
        lines += [f"- seed {row.seed}: {row.verdict}. {row.found}" for row in mine.itertuples()]
    (out / "claims.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines[: 2 + len(STUDY)]))


def draw(out: Path, judged: pd.DataFrame) -> None:
    """Claims by seed, coloured by verdict."""
    kinds = judged.assign(verdict=judged["verdict"].str.split(":").str[0])
    grid = kinds.pivot(index="says", columns="seed", values="verdict").loc[list(STUDY)]
    figure, axes = new(7.0, 0.3 * len(grid) + 1.0, mosaic=[["claims"]])
    axis = axes["claims"]
    for y, verdicts in enumerate(grid.to_numpy()):
        for x, verdict in enumerate(verdicts):
            axis.barh(y, 0.92, left=x + 0.04, height=0.84, color=COLOURS[verdict])
    axis.set(
        yticks=range(len(grid)),
        yticklabels=grid.index,
        xticks=[x + 0.5 for x in range(grid.shape[1])],
        xticklabels=[f"seed {seed}" for seed in grid.columns],
        xlim=(0, grid.shape[1]),
    )
    axis.invert_yaxis()
    axis.grid(False)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    for verdict, colour in COLOURS.items():
        axis.bar(0, 0, color=colour, label=verdict)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    Report(out).figure("claims_over_seeds", figure)


if __name__ == "__main__":
    sys.exit(main())
