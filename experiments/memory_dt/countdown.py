"""Does the model count the steps that are left, and does its greedy curve lie on the diagonal because of it?

The study wished for this: "had it learnt the true relationship between time-to-completion and RTG, this would
have been interesting to analyse".

    python experiments/memory_dt/countdown.py     # seeds 200-204: countdown.md, countdown.json
"""

from __future__ import annotations

import subprocess
import sys

import pandas as pd
from claims import write
from study import arguments

from dtx.analysis.core.analysis import Analysis
from dtx.config.compose import compose, experiment
from dtx.store.store import Store, use


def main() -> int:
    """Run what is missing, collect, write."""
    parser = arguments(__doc__, "memory_dt_claims")
    parser.set_defaults(seeds=list(range(200, 205)))
    chosen = parser.parse_args()
    what = [f"experiment={chosen.preset}", "analysis=[countdown]", f"store.path={chosen.store}"]
    sweep = [f"seed={','.join(map(str, chosen.seeds))}", "hydra/launcher=joblib"]
    command = [sys.executable, "-m", "dtx", "run", "-m", *what, *sweep]
    if subprocess.run([*command, f"hydra.launcher.n_jobs={chosen.jobs}"]).returncode:
        return 2
    use(Store(chosen.store))
    rows = []
    for seed in chosen.seeds:
        analysis = experiment(compose([*what, f"seed={seed}"])).targets["countdown"]
        assert isinstance(analysis, Analysis)
        for claim in analysis.result().claims:
            rows.append((claim.text, seed, claim.criterion, claim.evidence, claim.verdict.value))
    columns = ["says", "seed", "criterion", "evidence", "verdict"]
    write(chosen.out, pd.DataFrame(rows, columns=columns), "countdown", "the model")
    return 0


if __name__ == "__main__":
    sys.exit(main())
