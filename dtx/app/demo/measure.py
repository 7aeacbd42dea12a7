"""What a model does at each target, and whether that is what the model that ships must do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from dtx.analysis.core.result import Verdict
from dtx.app.demo.criteria import HIGH, LOW, MOST_AT_LOW
from dtx.dataset.episodes import OUTCOMES, Outcome
from dtx.dt.rollout import greedy_by_layout
from dtx.env.environment import Environment
from dtx.exchange.model_handle import LoadedModel
from dtx.statistics import mean_estimate, share_estimate

TARGETS = (LOW, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, HIGH)
EPISODES = 200
"""Sampled at each target; the interval of a mean return of .05 is then about .05 wide."""
SEED = 1000


def measured(
    dt: LoadedModel,
    env: Environment,
    targets: Sequence[float] = TARGETS,
    episodes: int = EPISODES,
) -> list[dict[str, Any]]:
    """Play greedily in every layout, and sample episodes.

    Returns:
        One a target: ``target``; ``greedy``, the outcome in each layout by its name; ``return`` and
        ``success``, mean over the sampled episodes with low, high (95% interval) and n; ``wrong`` and
        ``truncated``, shares of these.
    """
    assert env.decision is not None
    layouts = env.decision.layouts
    outcomes = greedy_by_layout(dt.model, env.decision, targets)
    sampled = dt.rollout(list(targets), episodes, seed=SEED, env=env)
    rows = []
    for target, greedy in zip(targets, outcomes, strict=True):
        played = sampled[sampled.reward_to_go == target]
        share = played.outcome.value_counts(normalize=True)
        reward = mean_estimate(played["return"].to_numpy(float), bounds=(0.0, 1.0))
        success = share_estimate(int((played.outcome == OUTCOMES[Outcome.SUCCESS]).sum()), episodes)
        rows.append(
            {
                "target": target,
                "greedy": {n: OUTCOMES[o] for n, o in zip(layouts, greedy, strict=True)},
                "return": _rounded(reward),
                "success": _rounded(success),
                **{name: round(float(share.get(name, 0.0)), 4) for name in ("wrong", "truncated")},
            }
        )
    return rows


def verdicts(rows: Iterable[dict[str, Any]]) -> Iterator[tuple[str, str, Verdict]]:
    """Hold the measured numbers against the criteria.

    Args:
        rows: Of :func:`measured`, with the targets ``LOW`` and ``HIGH``.

    Yields:
        Criterion, what was measured, verdict.
    """
    by_target = {row["target"]: row for row in rows}
    greedy = list(by_target[HIGH]["greedy"].values())
    right = greedy.count(OUTCOMES[Outcome.SUCCESS])
    yield (
        f"greedy play at {HIGH:g} succeeds in all {len(greedy)} layouts",
        f"{right} of {len(greedy)}",
        Verdict.judge([right == len(greedy)]),
    )
    low = by_target[LOW]["return"]
    met = True if low["high"] < MOST_AT_LOW else False if low["low"] >= MOST_AT_LOW else None
    yield (
        f"the mean return of sampled play at {LOW:g} is below {MOST_AT_LOW:g}",
        interval(low),
        Verdict.judge([met]),
    )


def interval(number: dict[str, Any]) -> str:
    """A number with its interval, in words."""
    return f"{number['value']:.3f} [{number['low']:.3f}, {number['high']:.3f}]"


def _rounded(number: Any) -> dict[str, Any]:
    ends = {name: round(getattr(number, name), 4) for name in ("value", "low", "high")}
    return {**ends, "n": number.n}
