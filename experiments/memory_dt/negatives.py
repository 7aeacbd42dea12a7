"""What the report says about models in which there is nothing to find: at most 5% of statements may come out.

Untrained models have learnt nothing: every statement about them is false. Behaviour clones never see
reward-to-go, and models trained with returns shuffled over the demonstrations cannot use it: every statement
about reward-to-go is false of them. They have learnt the demonstrations, so that other statements may be true
of them; those are counted apart. A statement is a line of the report that is established, or a claim that is
confirmed or depends.

    python experiments/memory_dt/negatives.py     # 10 untrained, 5 clones, 5 shuffled: negatives.{md,json}
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pandas as pd
from study import HERE

from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.result import About
from dtx.analysis.report.lines import ESTABLISHED, status
from dtx.config.compose import compose, experiment
from dtx.statistics import share_estimate
from dtx.store.store import Store, use

PRESET = "memory_dt_claims"
MOST = 0.05
"""Share of false statements that may come out (issue of 2026-11-29)."""
KINDS: dict[str, tuple[range, list[str]]] = {
    "untrained": (
        range(200, 210),
        [
            "dt.steps=0",
            "dt.optimiser.warm_up=0",
            "analysis.calibration.behaviour_clone.steps=0",
            "analysis.calibration.shuffled.steps=0",
        ],
    ),
    "behaviour clone": (
        range(200, 205),
        ["dt.reward_to_go=false", "dt.steps=300", "analysis.calibration.shuffled.steps=100"],
    ),
    # The control of the calibration is the model itself here.
    "shuffled returns": (range(200, 205), ["dt=shuffled_reward_to_go", "dt.steps=400"]),
}
"""Seeds and overrides of each kind of model."""


def main() -> int:
    """Run, count, write; exit status 1 if more than 5% of the false statements came out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=2, help="models at once, one thread each")
    parser.add_argument("--store", type=Path, default=Path("store"))
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    chosen = parser.parse_args()
    for kind in chosen.kinds:
        if not run(kind, chosen):
            return 2
    statements = collect(chosen)
    (chosen.out / "negatives.json").write_text(
        statements.to_json(orient="records", indent=1) + "\n"
    )
    text, worst = summary(statements)
    (chosen.out / "negatives.md").write_text(text)
    print(text)
    return int(worst > MOST)


def overrides(kind: str, seed: str) -> list[str]:
    """Of the models of a kind; ``seed`` may be a sweep."""
    return [f"experiment={PRESET}", f"seed={seed}", *KINDS[kind][1]]


def run(kind: str, chosen: argparse.Namespace) -> bool:
    """Run the report on all models of a kind; false if a stage failed, which dtx has told."""
    what = [*overrides(kind, ",".join(map(str, KINDS[kind][0]))), f"store.path={chosen.store}"]
    if chosen.jobs > 1:
        what += ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={chosen.jobs}"]
    return subprocess.run([sys.executable, "-m", "dtx", "run", "-m", *what]).returncode == 0


def collect(chosen: argparse.Namespace) -> pd.DataFrame:
    """One row a statement: kind, seed, analysis, statement, about, false, came_out, verdict."""
    use(Store(chosen.store))
    rows = []
    for kind in chosen.kinds:
        for seed in KINDS[kind][0]:
            config = compose([*overrides(kind, str(seed)), f"store.path={chosen.store}"])
            for name, analysis in experiment(config).targets.items():
                if not isinstance(analysis, Analysis):
                    continue
                result = analysis.result()
                if not result.about.needs_control:
                    continue
                of_line = status(result)
                made = [("(line)", result.about, of_line == ESTABLISHED, of_line)]
                made += [(c.id, c.about, c.verdict.states, c.verdict.value) for c in result.claims]
                for statement, about, came_out, verdict in made:
                    false = kind == "untrained" or about is About.REWARD_TO_GO
                    rows.append(
                        (kind, seed, name, statement, about.value, false, came_out, verdict)
                    )
    columns = ["kind", "seed", "analysis", "statement", "about", "false", "came_out", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def summary(statements: pd.DataFrame) -> tuple[str, float]:
    """The tables as Markdown, and the largest share of false statements that came out, lines or claims."""
    lines = ["| statements that are false of | came out | share [95%] |", "|---|---|---|"]
    worst = 0.0
    false = statements[statements["false"]]
    is_line = false["statement"] == "(line)"
    for what, part in (("lines", false[is_line]), ("claims", false[~is_line])):
        for kind, rows in [*part.groupby("kind", sort=False), ("all", part)]:
            share = share_estimate(int(rows.came_out.sum()), len(rows), of="statements")
            if kind == "all":
                worst = max(worst, share.value)
            lines.append(
                f"| {kind}: {what} of the report | {int(rows.came_out.sum())} of {len(rows)} | "
                f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}] |"
            )
    title = f"At most {MOST:g} of lines and of claims may come out. By analysis, those that did:"
    lines += ["", title, ""]
    came_out = false[false["came_out"]]
    for (name, statement), rows in came_out.groupby(["analysis", "statement"], sort=False):
        where = ", ".join(f"{row.kind} {row.seed}" for row in rows.itertuples())
        lines.append(f"- {name}, {statement}: {len(rows)} ({where})")
    if came_out.empty:
        lines.append("- none")
    rest = statements[~statements["false"] & (statements["statement"] != "(line)")]
    title = "Statements that may be true of clones and models with shuffled returns, and how often made:"
    lines += ["", title, ""]
    for (name, statement), rows in rest.groupby(["analysis", "statement"], sort=False):
        lines.append(f"- {name}, {statement}: {int(rows.came_out.sum())} of {len(rows)}")
    return "\n".join(lines) + "\n", worst


if __name__ == "__main__":
    sys.exit(main())
