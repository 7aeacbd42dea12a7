"""Patterns of all layouts and targets in one pass a model, reduced to tables and verdicts.

Letters: r targets, y layouts, l layers, h heads, n query token, m key token.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from dtx.analysis.attention.claims import Judge, head_numbers
from dtx.analysis.attention.patterns import attended
from dtx.analysis.attention.spec import TRAINED, AttentionSpec
from dtx.analysis.attention.tables import maps, modality, moved
from dtx.analysis.core.result import Check, Result
from dtx.analysis.core.untrained import twins
from dtx.analysis.core.windows import distinct_inputs, join, tokens_of
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.rollout import decision_contexts
from dtx.env.decision import Decision
from dtx.training.threads import one_thread

TOLERANCE = 1e-5
"""By how much float32 rows may miss a sum of 1."""


def compute(spec: AttentionSpec, model: DecisionTransformerModel, decision: Decision) -> Result:
    """Compute all patterns and reduce them to tables and verdicts.

    Args:
        spec: Targets, and how many untrained models.
        model: Any.
        decision: Layouts, and the routine up to the decision.

    Returns:
        Table ``modality``: one row a layer, head, target, layout, query kind and key kind: attention, uniform
        (even over what may be seen), untrained (mean over the untrained models). ``maps``: one row a layer,
        head, target, layout, query and key token: attention. ``moved``: one row a model, layer, head, layout,
        target and query token: total variation of the query's attention against the high target's.
        ``looks``: one row a layer, head, target, layout and query kind: attention of later tokens to the
        instruction's state and to the reward-to-go token that each looks at most. ``heads``: one row a layer,
        head and compared target, over all layouts: specificity, total_variation between the two targets,
        effect_even and effect_moved (see :class:`Attended`), untrained_even and untrained_moved (the largest
        of a head of the layer in any untrained model), matters (effect_even is above that). Arrays
        ``pattern`` (r, y, l, h, n, m) float32 of the model, and ``tokens`` (n,), their names.
    """
    layouts, compared = list(decision.layouts), list(spec.compared.values())
    with one_thread():
        context = join(decision_contexts(model, decision, spec.targets))
        shape = (len(spec.targets), len(layouts))
        own = attended(model, context, shape, compared)
        untrained = [
            attended(each, context, shape, compared)
            for each in twins(model, spec.untrained, spec.seed, context["table"][:-1])
        ]
    tokens, pattern = tokens_of(context, model.cfg), own.pattern
    judge = Judge(
        spec,
        head_numbers(spec, own, tokens, layouts),
        [head_numbers(spec, each, tokens, layouts) for each in untrained],
        model.cfg.reward_to_go,
    )
    named = [(TRAINED, own), *((f"untrained {i}", each) for i, each in enumerate(untrained))]
    moves = [moved(spec, of.pattern, tokens, layouts).assign(model=name) for name, of in named]
    metrics = judge.metrics()
    metrics["distinct_observations"] = float(len(context["table"]) - 1)
    return Result(
        metrics=metrics,
        checks=[
            Check(
                name="each token's attention adds up to 1",
                error=float(np.abs(pattern.sum(-1, dtype=np.float64) - 1).max()),
                tolerance=TOLERANCE,
            ),
            Check(
                name="no attention goes to later tokens",
                error=float(np.abs(np.triu(pattern, 1)).max()),
                tolerance=TOLERANCE,
            ),
        ],
        controls=[judge.control()],
        claims=list(judge.claims()),
        tables={
            "modality": modality(spec, pattern, [u.pattern for u in untrained], tokens, layouts),
            "maps": maps(spec, pattern, tokens, layouts),
            "moved": pd.concat(moves, ignore_index=True),
            "looks": judge.own.looks,
            "heads": judge.heads(),
        },
        arrays={"pattern": pattern, "tokens": np.array(tokens.names)},
        distinct_inputs=distinct_inputs(context),
    )
