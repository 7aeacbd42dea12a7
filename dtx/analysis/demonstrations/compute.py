"""What the demonstrations hold: outcomes, lengths and returns, the audit, and how much is repeated."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dtx.analysis.core.result import About, Check, Result
from dtx.analysis.demonstrations.audit import audit
from dtx.dataset.episodes import Episodes, Outcome, Split
from dtx.dt.model import ModelConfig
from dtx.dt.spec import Windows
from dtx.statistics import share_estimate

STUDY_COUNTS = {Outcome.SUCCESS: 18_000, Outcome.WRONG: 2_000, Outcome.TRUNCATED: 4_000}
"""Of about 24,000 episodes in the MemoryDT study."""


def compute(
    episodes: Episodes,
    horizon: int,
    cfg: ModelConfig,
    windows: Windows,
    *,
    audited: int,
    seed: int,
) -> Result:
    """Describe and audit demonstrations.

    Args:
        episodes: The demonstrations.
        horizon: Steps allowed in an episode.
        cfg: Of the model that reads windows of them.
        windows: How these are drawn.
        audited: Windows to compare with the reference, for each padding.
        seed: Of their choice.

    Returns:
        Tables ``outcomes``: one row a temperature and outcome: episodes, share, low, high, n (episodes of
        all outcomes), interval, study_share, mean_length, mean_return. ``audit``: one row a check: compared
        (how many values), violations. ``duplication``: one row a number: name, value. ``points``: one row an
        outcome, length and return: episodes.
    """
    rows = audit(episodes, horizon, cfg, windows, audited, seed)
    repeated = duplication(episodes)
    numbers = dict(repeated.itertuples(index=False))
    success = float((episodes.outcome == Outcome.SUCCESS).mean())
    return Result(
        finding=(
            f"{len(episodes.start):,} episodes, {success:.0%} successes; "
            f"{numbers['unique_episodes']:,.0f} distinct episodes; "
            f"{numbers['split_overlap']:.0%} of validation observations occur in training"
        ),
        metrics={
            "success_share": success,
            "audit_passed": float(rows["violations"].sum() == 0),
            **numbers,
        },
        checks=[
            Check(name=row.check, error=float(row.violations), tolerance=0)
            for row in rows.itertuples()
            if row.compared
        ],
        tables={
            "outcomes": outcome_table(episodes),
            "audit": rows,
            "duplication": repeated,
            "points": points(episodes),
        },
        distinct_inputs=int(numbers["unique_episodes"]),
        about=About.DATA,
    )


def outcome_table(episodes: Episodes) -> pd.DataFrame:
    """Counts, shares, mean length and mean return by temperature and outcome, the study's counts beside."""
    rows = []
    for temperature in [None, *np.unique(episodes.temperature)]:
        group = (
            np.ones(len(episodes.start), bool)
            if temperature is None
            else episodes.temperature == temperature
        )
        for outcome in Outcome:
            chosen = group & (episodes.outcome == outcome)
            share = share_estimate(int(chosen.sum()), int(group.sum()))
            study = STUDY_COUNTS[outcome] / 24_000 if temperature is None else None
            rows.append(
                {
                    "temperature": "all" if temperature is None else f"{temperature:g}",
                    "outcome": outcome.name.lower(),
                    "episodes": int(chosen.sum()),
                    "share": share.value,
                    **share.columns(),
                    "study_share": study,
                    "mean_length": float(episodes.length[chosen].mean()) if chosen.any() else None,
                    "mean_return": float(episodes.returns[chosen].mean()) if chosen.any() else None,
                }
            )
    return pd.DataFrame(rows)


def points(episodes: Episodes) -> pd.DataFrame:
    """Distinct (outcome, length, return), and how many episodes are at each."""
    table = pd.DataFrame(
        {
            "outcome": [Outcome(outcome).name.lower() for outcome in episodes.outcome.tolist()],
            "length": np.asarray(episodes.length, np.int64),
            "return": episodes.returns.astype(np.float64),
        }
    )
    return table.value_counts(sort=False).sort_index().rename("episodes").reset_index()


def duplication(episodes: Episodes) -> pd.DataFrame:
    """How much of the data is distinct, and how much of the validation split occurs in training.

    Returns:
        Rows (name, value): counts, and shares between 0 and 1.
    """
    sequences = np.full((len(episodes.start), int(episodes.length.max()), 2), -1, np.int32)
    real = np.arange(sequences.shape[1]) < episodes.length[:, None]
    sequences[..., 0][real], sequences[..., 1][real] = episodes.observation, episodes.action
    _, which = np.unique(sequences.reshape(len(sequences), -1), axis=0, return_inverse=True)
    held_out = episodes.split == Split.VALIDATION
    step_held_out = np.repeat(held_out, episodes.length)
    seen, validated = (
        np.unique(episodes.observation[~step_held_out]),
        np.unique(episodes.observation[step_held_out]),
    )
    observation_overlap = float(np.isin(validated, seen).mean()) if len(validated) else 0.0
    episode_overlap = (
        float(np.isin(which[held_out], which[~held_out]).mean()) if held_out.any() else 0.0
    )
    # A split by row of the observation table must share no observation: not so if the table repeats one.
    contents = [row.tobytes() for row in episodes.observations]
    even, odd = set(contents[::2]), set(contents[1::2])
    by_observation = len(even & odd) / len(even | odd)
    rows = [
        ("unique_observations", len(episodes.observations)),
        ("unique_episodes", len(np.unique(which))),
        ("split_overlap", observation_overlap),
        ("split_overlap_episodes", episode_overlap),
        ("split_overlap_by_observation", float(by_observation)),
    ]
    return pd.DataFrame(rows, columns=["name", "value"])
