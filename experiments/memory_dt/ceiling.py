"""How little a model of the demonstrations can return when asked for 0, by how much of an episode it sees.

Plays the failing demonstrations' own actions, given the current observation and, as long as the window
reaches back to it, the first one. Agents and demonstrations are those of the preset; what is in the store is
reused.

    python experiments/memory_dt/ceiling.py     # seeds 200-207: ceiling.md, ceiling.json
"""

from __future__ import annotations

import sys

import pandas as pd
from study import arguments, demonstrations, write

from dtx.analysis.calibration.baselines import FailingPolicy, play

CONTEXTS = (1, 5, 9, 20, 50)
"""Timesteps of a window: the study's is 9, an episode has at most 50."""
EPISODES = 2000


def main() -> int:
    """Run what is missing, play, write."""
    parser = arguments(__doc__, "memory_dt")
    parser.set_defaults(seeds=list(range(200, 208)))
    chosen = parser.parse_args()
    columns = {}
    for seed in chosen.seeds:
        dataset = demonstrations(chosen, seed)
        episodes, env = dataset.load(), dataset.environment
        columns[seed] = {
            f"steps of context: {context}": float(
                play(
                    FailingPolicy(episodes, env.n_actions, context), env, EPISODES, 1
                ).returns.mean()
            )
            for context in CONTEXTS
        }
    write(chosen.out, pd.DataFrame(columns), "ceiling")
    return 0


if __name__ == "__main__":
    sys.exit(main())
