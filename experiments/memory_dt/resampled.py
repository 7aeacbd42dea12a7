"""How far the choice at the junction differs between samples of demonstrations of one and the same agent.

The calibration holds a model against the demonstrations that it was trained on. This is what such a distance
is without any model: each agent records as many episodes twice more, under other seeds, and each sample is
held against the first.

    python experiments/memory_dt/resampled.py   # seeds 1000-1009: resampled.md, resampled.json
"""

from __future__ import annotations

import sys

import pandas as pd
from study import arguments, demonstrations, write

from dtx.analysis.core.decision import demonstrated
from dtx.dt.spec import Balance

FURTHER = {"second": 5000, "third": 6000}
"""Further samples of an agent, and what is added to its seed for them."""


def main() -> int:
    """Record what is missing, compare, write."""
    parser = arguments(__doc__, "memory_dt")
    parser.set_defaults(seeds=list(range(1000, 1010)))
    chosen = parser.parse_args()
    columns: dict[int, dict[str, float]] = {}
    for seed in chosen.seeds:
        choices = {}
        for sample, more in {"first": 0, **FURTHER}.items():
            dataset = demonstrations(chosen, seed, f"dataset.seed={seed + more}")
            decision = dataset.environment.decision
            table = demonstrated(dataset.load(), decision, 0.9, Balance.none)
            low = (table.weighting == "as recorded") & (table.reward_to_go == "low")
            choices[sample] = table[low]
        columns[seed] = {"first sample: failing episodes": float(choices["first"].episodes.sum())}
        for sample in FURTHER:
            columns[seed][f"{sample} sample: distance"] = max(
                abs(choices[sample][turn].mean() - choices["first"][turn].mean())
                for turn in ("wrong_turn", "right_turn")
            )
    write(chosen.out, pd.DataFrame(columns), "resampled")
    return 0


if __name__ == "__main__":
    sys.exit(main())
