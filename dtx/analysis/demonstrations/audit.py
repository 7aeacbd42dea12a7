"""What must hold exactly of demonstrations and of the windows cut from them, counted by a slow reference."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from dtx.dataset.episodes import Episodes, Outcome, Split
from dtx.dt.model import ModelConfig
from dtx.dt.spec import Padding, Windows
from dtx.dt.windows import Drawn, Sampler
from dtx.env.encoding import flatten, one_hot


def audit(
    episodes: Episodes,
    horizon: int,
    cfg: ModelConfig,
    windows: Windows,
    count: int,
    seed: int,
) -> pd.DataFrame:
    """Count violations of what must hold exactly.

    Args:
        episodes: The demonstrations.
        horizon: Steps allowed in an episode.
        cfg: Of the model that reads the windows.
        windows: How they are drawn; both paddings are audited.
        count: How many windows of each padding.
        seed: Of the windows drawn.

    Returns:
        One row a check: check, compared (how many values), violations.
    """
    returns, success = episodes.returns, episodes.outcome == Outcome.SUCCESS
    worth = 1 - 0.9 * episodes.length / horizon
    late = episodes.length > horizon
    truncated = episodes.outcome == Outcome.TRUNCATED
    rows = [
        (
            "outcomes add up to the episodes",
            len(success),
            abs(len(success) - np.isin(episodes.outcome, list(Outcome)).sum()),
        ),
        (
            "lengths add up to the steps",
            len(episodes.action),
            abs(len(episodes.action) - int(episodes.length.sum())),
        ),
        (
            "a success is worth 1 - 0.9 t / max_steps",
            success.sum(),
            (np.abs(returns - worth)[success] > 1e-6).sum(),
        ),
        ("a failure is worth 0", (~success).sum(), (returns[~success] != 0).sum()),
        ("no episode outlasts max_steps", len(late), late.sum()),
        (
            "a truncated episode lasts max_steps",
            truncated.sum(),
            (episodes.length[truncated] != horizon).sum(),
        ),
        _reward_to_go(episodes),
    ]
    for padding in Padding:
        padded = dataclasses.replace(cfg, left_padding=padding is Padding.left)
        drawn = dataclasses.replace(windows, padding=padding)
        rows += _windows(episodes, padded, drawn, count, seed)
    return pd.DataFrame(rows, columns=["check", "compared", "violations"]).astype(
        {"compared": int, "violations": int}
    )


def _reward_to_go(episodes: Episodes) -> tuple[str, int, int]:
    """Each reward-to-go against a sum over its own episode, in double precision."""
    wrong = 0
    computed = episodes.reward_to_go
    for start, length in zip(episodes.start.tolist(), episodes.length.tolist(), strict=True):
        rewards = episodes.reward[start : start + length].astype(np.float64)
        wrong += int(
            (np.abs(rewards[::-1].cumsum()[::-1] - computed[start : start + length]) > 1e-6).sum()
        )
    return "reward-to-go is the sum of rewards from there on", len(computed), wrong


def _windows(
    episodes: Episodes, cfg: ModelConfig, windows: Windows, count: int, seed: int
) -> list[tuple[str, int, int]]:
    """Windows as the model gets them against a loop that follows the definition."""
    sampler = Sampler(episodes, cfg, windows, Split.TRAIN)
    drawn = sampler.draw(np.random.default_rng(seed), count)
    context, action, real = sampler.context(drawn)
    encoded = flatten(one_hot(episodes.observations)).astype(np.float32)
    table, index = context["table"].numpy(), context["observation"].numpy()
    wrong = dict.fromkeys(("states", "actions", "reward-to-go", "timesteps"), 0)
    for w in range(count):
        slow = _slow_window(episodes, drawn, w, cfg)
        state = np.stack(
            [encoded[o] if o >= 0 else np.zeros_like(encoded[0]) for o in slow["observation"]]
        )
        wrong["states"] += int((table[index[w]] != state).any())
        wrong["actions"] += int((context["action"][w].numpy() != slow["action"]).any())
        seen = slow["seen"]
        wrong["reward-to-go"] += int(
            (np.abs(context["reward_to_go"][w].numpy() - slow["reward_to_go"])[seen] > 1e-6).any()
        )
        wrong["timesteps"] += int((context["timestep"][w].numpy() != slow["timestep"])[seen].any())
        wrong["states"] += int((real[w].numpy() != slow["real"]).any())
        wrong["actions"] += int(
            (action[w].numpy() != np.where(slow["real"], slow["action"], 0)).any()
        )
    side = windows.padding.value
    return [(f"windows with {side} padding: {what}", count, n) for what, n in wrong.items()]


def _slow_window(
    episodes: Episodes, drawn: Drawn, w: int, cfg: ModelConfig
) -> dict[str, np.ndarray]:
    """One window, step by step, padded as its definition says."""
    total, length = cfg.n_steps, int(drawn.length[w])
    pad = total - length if cfg.left_padding else 0
    first = int(drawn.row[w])
    episode = int(np.searchsorted(episodes.start, first, side="right")) - 1
    end = int(episodes.start[episode] + episodes.length[episode])
    slow = {k: np.zeros(total, np.int64) for k in ("observation", "action", "timestep")}
    slow |= {
        "reward_to_go": np.zeros(total),
        "real": np.zeros(total, bool),
        "seen": np.ones(total, bool),
    }
    for t in range(total):
        step = first + t - pad
        real = first <= step < first + length
        slow["real"][t] = real
        slow["observation"][t] = episodes.observation[step] if real else -1
        slow["action"][t] = episodes.action[step] if real else cfg.n_actions
        slow["timestep"][t] = step - episodes.start[episode] if real else 0
        slow["reward_to_go"][t] = episodes.reward[max(step, first) : end].sum(dtype=np.float64)
        # Behind a window with right padding nothing is read: attention is causal and the loss ignores it.
        slow["seen"][t] = real or cfg.left_padding
    return slow
