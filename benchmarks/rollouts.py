"""Speed of playing with kept keys and values beside computing every context anew, from one run.

    python benchmarks/rollouts.py [MODEL]    # a minute; MODEL: folder of one, else fresh weights

Both play the same episodes, every distinct context once, and come to the same returns and lengths,
which is checked. A fresh model seldom ends an episode, so that it has more to gain. Ratios hold on a busy
machine, since CPU-seconds are counted.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from torch import Tensor

from dtx.config.compose import build_group
from dtx.dt.context import Context
from dtx.dt.edits import Depends
from dtx.dt.model import DecisionTransformerModel, initialise, load
from dtx.dt.rollout import rollouts

TARGETS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
WHOLE_EPISODES = ("dataset=null", "dt.windows.context=50", "dt.model.n_ctx=149")


class Anew:
    """A model that computes every context from its start."""

    by_token = None
    depends = Depends.window

    def __init__(self, model: DecisionTransformerModel):
        self.model, self.cfg = model, model.cfg

    def last_logits(self, context: Context) -> Tensor:
        """As the model."""
        return self.model.last_logits(context)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path, help="folder of a trained model")
    parser.add_argument("--episodes", type=int, default=50, help="at each of 11 targets")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    model = fresh() if chosen.model is None else load(chosen.model)
    env = build_group("env/memory")
    rollouts(model, env, [0.9], episodes=2, seed=1)  # imports and first calls are not measured
    seconds, results = [], []
    for player in (Anew(model), model):
        start = time.process_time()
        played = rollouts(player, env, TARGETS, episodes=chosen.episodes, seed=0)
        seconds.append(time.process_time() - start)
        results.append(np.stack([np.stack([p.returns, p.length]) for p in played]))
    assert (results[0] == results[1]).all(), "the two ways play different episodes"
    steps, cfg = int(results[0][:, 1].sum()), model.cfg
    print(
        f"{cfg.n_layers} layers, d_model {cfg.d_model}, context of {cfg.n_steps} steps, one thread, "
        f"{'fresh weights' if chosen.model is None else chosen.model.name}\n"
    )
    print("| work | steps | anew | kept keys and values | ratio |")
    print("|---|--:|--:|--:|--:|")
    print(
        f"| {len(TARGETS)} targets x {chosen.episodes} episodes | {steps:,} | {seconds[0]:.1f} CPU-s | "
        f"{seconds[1]:.1f} CPU-s | {seconds[0] / seconds[1]:.1f}x |"
    )


def fresh() -> DecisionTransformerModel:
    """The default architecture with whole episodes as context, untrained."""
    model = DecisionTransformerModel(build_group("dt/memory_dt", WHOLE_EPISODES).model_config())
    initialise(model, None, 0.15, 0)
    return model.eval()


if __name__ == "__main__":
    main()
