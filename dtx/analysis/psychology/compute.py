"""From policies in all poses and sampled episodes to a result."""

from __future__ import annotations

import pandas as pd

from dtx.analysis.core.result import Check, Result
from dtx.analysis.psychology.claims import Judge
from dtx.analysis.psychology.measure import PolicyMeasures, measure
from dtx.analysis.psychology.poses import Poses
from dtx.analysis.psychology.spec import PsychologySpec
from dtx.dt.model import DecisionTransformerModel
from dtx.env.decision import Decision

TOLERANCE = 1e-9


def compute(spec: PsychologySpec, model: DecisionTransformerModel, decision: Decision) -> Result:
    """Where and how a model decides.

    Args:
        spec: What is asked for, played and compared.
        model: Any that fits the environment.
        decision: Of the environment.

    Returns:
        Tables ``states``, ``divergence``, ``play`` as in :class:`PolicyMeasures`;
        ``worlds``: one row a layout and object or wall: x, y, kind.
    """
    return result_of(spec, decision, measure(spec, model, decision))


def result_of(spec: PsychologySpec, decision: Decision, measured: PolicyMeasures) -> Result:
    """Judge what was measured."""
    judge = Judge(spec, decision, measured)
    return Result(
        metrics=judge.metrics(),
        checks=[
            Check(
                name="probabilities add up to 1",
                error=measured.sum_error,
                tolerance=TOLERANCE,
            ),
            Check(
                name="a policy does not diverge from itself",
                error=measured.self_divergence,
                tolerance=TOLERANCE,
            ),
        ],
        controls=[judge.control()],
        claims=list(judge.claims()),
        tables={
            "states": measured.states,
            "divergence": measured.divergence,
            "play": measured.play,
            "worlds": _worlds(measured.poses, decision.layouts),
        },
        distinct_inputs=measured.distinct,
    )


def _worlds(poses: Poses, layouts: tuple[str, ...]) -> pd.DataFrame:
    rows = [
        (layout, *thing)
        for layout, things in zip(layouts, poses.worlds, strict=True)
        for thing in things
    ]
    return pd.DataFrame(rows, columns=["layout", "x", "y", "kind"])
