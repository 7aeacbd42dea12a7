"""Dictionaries of three Decision Transformers, four seeds each, beside every control: tables over seeds.

Trains what is not there yet, two models at a time, and puts the results side by side.

    python experiments/sae_memory/study.py                                              # seeds 200-202
    python experiments/sae_memory/study.py --preset sae_door_key --seeds 200 --name door_key
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from dtx.analysis.core.analysis import Analysis
from dtx.analysis.core.result import Result
from dtx.config.compose import compose, experiment
from dtx.statistics import mean_estimate
from dtx.store.store import Store, use

HERE = Path(__file__).parent
MEASURES = ("explained variance", "KL", "same action", "return kept")
"""Of the table ``groups`` of the analysis dictionaries."""
SHOWN = {"sparsity": (4.0, 16.0)}
"""Settings of dictionaries and controls that the table shows: so many features, components, dimensions."""


def main() -> int:
    """Run, collect, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[200, 201, 202])
    parser.add_argument("--preset", default="sae_memory")
    parser.add_argument("--name", default="results", help="of the files that are written")
    parser.add_argument("--jobs", type=int, default=2, help="models at once, one thread each")
    parser.add_argument("--store", type=Path, default=Path("store"))
    parser.add_argument("--out", type=Path, default=HERE)
    chosen = parser.parse_args()
    if not run(chosen):
        return 2
    numbers, claims = collect(chosen)
    chosen.out.mkdir(parents=True, exist_ok=True)
    write = {chosen.name: {str(s): n for s, n in numbers.items()}, f"{chosen.name}_claims": claims}
    for name, content in write.items():
        (chosen.out / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    text = tables(numbers, claims)
    (chosen.out / f"{chosen.name}.md").write_text(text)
    print(text)
    return 0


def run(chosen: argparse.Namespace) -> bool:
    """Run the preset for all seeds; false if a stage failed, which dtx has told."""
    seeds = ",".join(map(str, chosen.seeds))
    what = [f"experiment={chosen.preset}", f"seed={seeds}", f"store.path={chosen.store}"]
    if chosen.jobs > 1 and len(chosen.seeds) > 1:
        what += ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={chosen.jobs}"]
    return subprocess.run([sys.executable, "-m", "dtx", "run", "-m", *what]).returncode == 0


def collect(chosen: argparse.Namespace) -> tuple[dict[int, dict[str, float]], list[dict]]:
    """Numbers by name of each seed, and the verdicts of all claims."""
    use(Store(chosen.store))
    numbers: dict[int, dict[str, float]] = {}
    claims = []
    for seed in chosen.seeds:
        words = [f"experiment={chosen.preset}", f"seed={seed}", f"store.path={chosen.store}"]
        targets = experiment(compose(words)).targets
        results = {
            name: stage.result() for name, stage in targets.items() if isinstance(stage, Analysis)
        }
        of_seed = dict(kept(results["dictionaries"]))
        of_seed |= dict(told(results["features"]))
        for name in ("named_share", "named_share_untrained"):
            of_seed[f"labels: {name}"] = results["labels"].metrics[name]
        numbers[seed] = {k: float(v) for k, v in of_seed.items() if v is not None}
        claims += [
            {"seed": seed, "analysis": analysis, "says": c.text, "verdict": c.verdict.value,
             "evidence": c.evidence}
            for analysis, result in results.items() for c in result.claims
        ]  # fmt: skip
    return numbers, claims


def kept(result: Result) -> Iterator[tuple[str, float | None]]:
    """What each kind of dictionary keeps, mean over the seeds of dictionaries."""
    groups = result.tables["groups"]
    for row in groups[groups["measure"].isin(MEASURES)].itertuples():
        if row.kind not in ("mean", "identity") and row.sparsity not in SHOWN["sparsity"]:
            continue
        size = "" if row.kind in ("mean", "identity") else f", {row.sparsity:g}"
        target = "" if pd.isna(row.target) else f" at {row.target:g}"
        yield f"{row.kind}{size}: {row.measure}{target}", row.value
    yield "smallest L0 that keeps the return", result.metrics["l0_for_95"]


def told(result: Result) -> Iterator[tuple[str, float | None]]:
    """F1 minus always on by group of facts and source, and margins."""
    for row in result.tables["groups"].itertuples():
        if row.source in ("always on",):
            continue
        yield f"facts, {row.group}: {row.source}", row.above_always_on
    for name, value in result.metrics.items():
        if name == "margin" or name.startswith("margin_") or name in ("facts", "beyond_share"):
            yield f"features: {name}", value


def tables(numbers: dict[int, dict[str, float]], claims: list[dict]) -> str:
    """Markdown: every number with its interval over models, then the verdicts."""
    names = list(dict.fromkeys(name for of in numbers.values() for name in of))
    lines = [
        f"Seeds {', '.join(map(str, numbers))}; means over models with 95% intervals (t).",
        "",
        "| number | mean | interval | by seed |",
        "|---|---|---|---|",
    ]
    for name in names:
        values = np.array([of.get(name, np.nan) for of in numbers.values()])
        there = values[~np.isnan(values)]
        if not len(there):
            continue
        mean = mean_estimate(there, of="models")
        interval = f"[{mean.low:.3g}, {mean.high:.3g}]" if len(there) > 1 else "one model"
        by_seed = ", ".join("missing" if np.isnan(v) else f"{v:.3g}" for v in values)
        lines.append(f"| {name} | {mean.value:.3g} | {interval} | {by_seed} |")
    lines += ["", "| analysis | claim | verdicts |", "|---|---|---|"]
    for (analysis, says), of in pd.DataFrame(claims).groupby(["analysis", "says"], sort=False):
        lines.append(f"| {analysis} | {says} | {'; '.join(of['verdict'])} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
