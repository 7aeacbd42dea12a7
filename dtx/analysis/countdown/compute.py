"""Measure steps left three ways: by probes, by patches, by playing with another clock."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dtx.analysis.core.result import About, Check, Control, Relation, Result, largest
from dtx.analysis.core.untrained import twins
from dtx.analysis.countdown.claims import claims_of, summaries
from dtx.analysis.countdown.curve import curve, followed
from dtx.analysis.countdown.effects import BASE, Runs, moved, restored
from dtx.analysis.countdown.naming import FIT, StepsNamed, steps_named
from dtx.analysis.countdown.probe import probed, read
from dtx.analysis.countdown.spec import (
    ASKED,
    CLOCK,
    PLACE,
    RECEIVER_STEPS,
    SAME_STEPS,
    TIME,
    TRAINED,
    UNTRAINED,
    WHOLE_CLOCK,
    CountdownSpec,
)
from dtx.analysis.countdown.states import Windows, on_routine, pairs, play
from dtx.dataset.episodes import Episodes
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.windows import observation_table
from dtx.env.decision import Decision
from dtx.env.environment import Environment
from dtx.progress import progress
from dtx.statistics import Estimate, mean_estimate
from dtx.training.threads import one_thread

TOLERANCE = 1e-3
"""Nats by which float32 log-odds may miss; they are of the order of 10."""


def compute(
    spec: CountdownSpec,
    model: DecisionTransformerModel,
    env: Environment,
    decision: Decision,
    demonstrations: Episodes,
) -> Result:
    """Play, change steps left, patch, reset the clock, probe.

    Args:
        spec: What is measured, and what is wanted.
        model: Any.
        env: Where it plays. decision: Of that environment.
        demonstrations: Say how many steps a return names.

    Returns:
        Tables ``ways``, ``changes``, ``layers``, ``curve`` and ``probes``: see ``claims.summaries``.
    """
    named = steps_named(demonstrations)
    if named is None:
        return _nothing("the demonstrations' successes do not say what a step is worth")
    models = {TRAINED: model}
    seen = observation_table(demonstrations.observations)[:-1]
    fresh = enumerate(twins(model, spec.untrained, spec.seed, seen))
    models |= {f"{UNTRAINED} {i}": twin for i, twin in fresh}
    with one_thread(), progress("countdown", 5, "parts") as bar:
        bar.advance(0, "own play")
        own = play(spec, model, decision)
        table = pairs(spec, named, on_routine(decision, own), env.horizon, model.cfg.n_timesteps)
        if not len(table):
            return _nothing("no state of its own play on the routine has steps left to change")
        bar.advance(1, "changes")
        windows = Windows(model.cfg, own.episodes)
        changes, ways = _changes(models, windows, table, env.horizon)
        bar.advance(1, "patches")
        patches = restored(Runs(model, windows, table, env.horizon), ways)
        bar.advance(1, "clocks")
        played = {name: models[name] for name in (TRAINED, f"{UNTRAINED} 0")}
        episodes = curve(spec, played, env, decision, named)
        bar.advance(1, "probes")
        probes = _probes(spec, models, named, demonstrations, own.episodes, own.target)
        bar.advance(1)
    tables = summaries(spec, changes, patches, episodes, followed(episodes), probes)
    metrics, claims = claims_of(spec, tables, model.cfg.n_layers)
    return Result(
        finding=_finding(metrics),
        metrics=metrics,
        checks=_checks(named, patches, model.cfg.n_layers),
        controls=[_control(changes)],
        claims=claims,
        tables=tables,
        distinct_inputs=len(table.drop_duplicates(["episode", "step"])),
        about=About.REWARD_TO_GO,
    )


def _changes(
    models: dict[str, DecisionTransformerModel], windows: Windows, table: pd.DataFrame, horizon: int
) -> tuple[pd.DataFrame, dict]:
    """What every way of changing steps left does in every model; and the first model's runs by name."""
    parts, ways = [], {}
    for name, model in models.items():
        runs = Runs(model, windows, table, horizon)
        chosen = [ASKED, WHOLE_CLOCK]
        if name == TRAINED:
            chosen += [TIME, *([PLACE, CLOCK] if runs.places else [])]
        found = {way: runs.run(way) for way in (BASE, *chosen)}
        parts.append(moved(runs, found).assign(model=name))
        if name == TRAINED:
            donors = {way: runs.run(way) for way in (SAME_STEPS, RECEIVER_STEPS)}
            ways = found | donors
    return pd.concat(parts, ignore_index=True), ways


def _probes(
    spec: CountdownSpec,
    models: dict[str, DecisionTransformerModel],
    named: StepsNamed,
    demonstrations: Episodes,
    own: Episodes,
    target: np.ndarray,
) -> pd.DataFrame:
    parts = [
        read(spec, models, source, probed(spec, models[TRAINED], named, episodes, asked))
        for source, episodes, asked in (
            ("demonstrations", demonstrations, None),
            ("own play", own, target),
        )
    ]
    return pd.concat(parts, ignore_index=True)


def _checks(named: StepsNamed, patches: pd.DataFrame, layers: int) -> list[Check]:
    direct = patches[patches.source.isin([ASKED, WHOLE_CLOCK])]
    end, start = direct[direct.point == layers], direct[direct.point == 0]
    asked = start[start.source == ASKED]
    return [
        Check(
            name="a success has the steps that its return names", error=named.error, tolerance=FIT
        ),
        Check(
            name="after the last block the last state's stream is all of the other run",
            error=largest((end.moved - end.gap).abs()),
            tolerance=TOLERANCE,
        ),
        Check(
            name="before the first block the last state holds nothing of reward-to-go",
            error=largest(asked.moved.abs()),
            tolerance=TOLERANCE,
        ),
    ]


def _control(changes: pd.DataFrame) -> Control:
    """Reward-to-go moves the policy by more than in any untrained model."""
    size = {name: _mean_size(rows) for name, rows in changes[changes.way == ASKED].groupby("model")}
    own = size.pop(TRAINED)
    return Control.of(
        "change of log-odds by reward-to-go, against that of the most moved untrained model",
        own,
        Relation.ABOVE,
        max(size.values(), key=lambda estimate: estimate.value),
    )


def _mean_size(rows: pd.DataFrame) -> Estimate:
    return mean_estimate(rows.change.abs().to_numpy(), clusters=rows.episode.to_numpy())


def _finding(metrics: dict[str, float | None]) -> str:
    def said(name: str) -> str:
        value = metrics.get(name)
        return "not measured" if value is None or np.isnan(value) else f"{value:.2f}"

    return (
        f"per step left the clock moves the policy {said('least_slope')} to {said('largest_slope')} times "
        f"as far as reward-to-go; of a clock that is reset, episodes follow {said('least_followed')} to "
        f"{said('largest_followed')}; the greedy curve is {said('greedy_distance')} off the diagonal"
    )


def _nothing(why: str) -> Result:
    return Result(
        finding=f"nothing to measure: {why}",
        metrics={},
        checks=[Check(name="steps named by a return", error=None, tolerance=FIT)],
        problems=[why],
        about=About.REWARD_TO_GO,
    )
