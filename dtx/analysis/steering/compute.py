"""Steer a model to goals, and judge what came of it."""

from __future__ import annotations

from dtx.analysis.core.result import Check, Result
from dtx.analysis.steering.claims import judge
from dtx.analysis.steering.measure import EPISODES, SteeringMeasures, measure
from dtx.analysis.steering.spec import SteeringSpec
from dtx.dataset.episodes import Episodes
from dtx.dt.model import DecisionTransformerModel
from dtx.env.environment import Environment
from dtx.pairs.pair_set import PairSet


def compute(
    spec: SteeringSpec,
    model: DecisionTransformerModel,
    env: Environment,
    pairs: PairSet | None = None,
    episodes: Episodes | None = None,
) -> Result:
    """Find edits, choose them on training windows, judge them on held-out ones and in the environment.

    Args:
        spec: Goals, the edits that are tried, and what counts as reached.
        model: Any that fits the environment.
        env: Where it acts with the edits in place.
        pairs: For goals on an edit of them.
        episodes: Demonstrations, in whose windows nothing may change.

    Returns:
        Tables as in :class:`~dtx.analysis.steering.measure.SteeringMeasures`.
    """
    return result_of(spec, measure(spec, model, env, pairs, episodes))


def result_of(spec: SteeringSpec, measured: SteeringMeasures) -> Result:
    """Judge what was measured."""
    metrics, controls, claims = judge(spec, measured.tables, measured.reads)
    return Result(
        metrics=metrics,
        controls=controls,
        checks=[
            Check(name=name, error=error, tolerance=0 if name == EPISODES else spec.tolerance)
            for name, error in measured.errors.items()
        ],
        claims=claims,
        tables=measured.tables,
        distinct_inputs=measured.distinct,
    )
