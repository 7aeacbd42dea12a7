"""Tables with intervals, and what becomes of the claims, each for every reward-to-go by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from dtx.analysis.core.result import About, Claim, Relation, Verdict
from dtx.analysis.core.verdicts import MINIMUM
from dtx.analysis.countdown.probe import TIME_IS_UP
from dtx.analysis.countdown.spec import (
    ASKED,
    DENOISE,
    GREEDY,
    NOISE,
    RECEIVER_STEPS,
    SAME_STEPS,
    SAMPLED,
    TRAINED,
    WHOLE_CLOCK,
    CountdownSpec,
)
from dtx.statistics import Estimate, enumerated, mean_estimate, ratio_estimate

Ends = tuple[float, float]
SOURCES = (ASKED, WHOLE_CLOCK, SAME_STEPS, RECEIVER_STEPS)


def summaries(
    spec: CountdownSpec,
    changes: pd.DataFrame,
    patches: pd.DataFrame,
    episodes: pd.DataFrame,
    shares: pd.DataFrame,
    probes: pd.DataFrame,
) -> dict[str, pd.DataFrame]:
    """Reduce to tables, each number with low, high, n and interval.

    Returns:
        ``ways``: one row a model, target and way: slope of its change on that by reward-to-go, and back, that
        of the latter on the former, where either is ``least_gap`` or more; gap, the mean size of the latter.
        ``changes``: one row a target, shift and way of the model: change in nats. ``layers``: one row a
        target, source, direction and point: rho. ``curve``: one row a model, way of playing, offset and
        target: length, return, success, expected (steps), possible, followed. ``probes``: as ``probe.read``.
    """
    own = changes[changes.model == TRAINED]
    return {
        "ways": _ways(spec, changes),
        "changes": _changes(own),
        "layers": _layers(spec, patches),
        "curve": _curve(episodes, shares),
        "probes": probes,
    }


def _changes(own: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for key, part in own.groupby(["target", "shift", "way"]):
        change = mean_estimate(part.change.to_numpy(), clusters=part.episode.to_numpy())
        target, shift, way = key  # type: ignore[misc]
        rows.append({
            "target": target, "shift": shift, "way": way, "change": change.value, **change.columns(),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _ways(spec: CountdownSpec, changes: pd.DataFrame) -> pd.DataFrame:
    keys = ["model", "target", "episode", "step", "shift"]
    asked = changes[changes.way == ASKED].set_index(keys).change.rename("by_asking")
    rows = []
    others = changes[changes.way != ASKED].join(asked, on=keys)
    for key, part in others.groupby(["model", "target", "way"]):
        model, target, way = key  # type: ignore[misc]
        # Chosen by either: a clock that moves what reward-to-go does not is no count, nor the reverse.
        size = np.maximum(part.by_asking.abs(), part.change.abs())
        large = part[size >= spec.least_gap]
        slope = _ratio(large, large.change * large.by_asking, large.by_asking**2)
        back = _ratio(large, large.change * large.by_asking, large.change**2)
        gap = mean_estimate(part.by_asking.abs().to_numpy(), clusters=part.episode.to_numpy())
        rows.append({
            "model": model, "target": target, "way": way, "slope": slope.value, **slope.columns(),
            "back": back.value, "back_low": back.low, "back_high": back.high,
            "gap": gap.value, "gap_low": gap.low, "gap_high": gap.high, "pairs": len(large),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _layers(spec: CountdownSpec, patches: pd.DataFrame) -> pd.DataFrame:
    rows = []
    measured = patches[(patches.gap.abs() >= spec.least_gap) & patches.moved.notna()]
    keys = ["target", "source", "direction", "point"]
    for key, part in measured.groupby(keys):
        rho = _ratio(part, part.moved * part.gap, part.gap**2)
        rows.append({**dict(zip(keys, key, strict=True)), "rho": rho.value, **rho.columns()})
    names = [*keys, "rho", "low", "high", "n", "interval"]
    return pd.DataFrame(rows, columns=names)


def _curve(episodes: pd.DataFrame, shares: pd.DataFrame) -> pd.DataFrame:
    keys = ["model", "how", "offset", "target"]
    share_of = dict(iter(shares.groupby(keys)))
    rows = []
    for key, part in episodes.groupby(keys):
        row = {
            **dict(zip(keys, key, strict=True)),
            **{name: part[name].mean() for name in ("length", "return", "success")},
            **{name: part[name].iloc[0] for name in ("named", "expected", "possible")},
        }
        share = share_of.get(key)
        followed = Estimate(math.nan, math.nan, math.nan, 0, "not measured")
        if share is not None and key[1] == GREEDY:
            followed = enumerated(share.share.mean(), len(share))
        elif share is not None:
            followed = mean_estimate(share.share.to_numpy())
        rows.append({**row, "followed": followed.value, **followed.columns()})
    return pd.DataFrame(rows)


def _ratio(rows: pd.DataFrame, above: pd.Series, below: pd.Series) -> Estimate:
    """Sum over sum, episodes as independent observations."""
    sums = pd.DataFrame({"above": above, "below": below}).groupby(rows.episode).sum()
    if not sums.below.sum() > 0:
        return Estimate(math.nan, math.nan, math.nan, len(sums), "nothing moved")
    return ratio_estimate(sums.above.to_numpy(), sums.below.to_numpy())


def claims_of(
    spec: CountdownSpec, tables: Mapping[str, pd.DataFrame], layers: int
) -> tuple[dict[str, float | None], list[Claim]]:
    """Metrics and claims."""
    ways, curve = tables["ways"], tables["curve"]
    own = ways[(ways.model == TRAINED) & (ways.way == WHOLE_CLOCK)]
    played = curve[(curve.model == TRAINED) & (curve.how == SAMPLED) & (curve.offset != 0)]
    played = played[played.possible]
    metrics: dict[str, float | None] = {
        "least_slope": own.slope.min(),
        "largest_slope": own.slope.max(),
        "least_gap": own.gap.min(),
        "least_followed": played.followed.min(),
        "largest_followed": played.followed.max(),
        "greedy_distance": _distance(curve, GREEDY),
        "sampled_distance": _distance(curve, SAMPLED),
    }
    claims = [
        _alike(spec, own),
        _carried(spec, tables["layers"], layers),
        _follows(spec, played, curve),
        _on_diagonal(spec, curve, metrics["greedy_distance"]),
        _time_is_up(spec, tables["probes"]),
    ]
    return metrics, claims


def _distance(curve: pd.DataFrame, how: str) -> float:
    rows = curve[(curve.model == TRAINED) & (curve.how == how) & (curve.offset == 0)]
    return float((rows["return"] - rows.target).abs().mean())


def _alike(spec: CountdownSpec, own: pd.DataFrame) -> Claim:
    moves, low, high = own[(own.n >= MINIMUM) & (own.gap >= spec.least_gap)], *spec.alike
    decided = {}
    for row in moves.itertuples():
        both = [(row.low, row.high), (row.back_low, row.back_high)]
        within = [_within(ends, row.n, spec.alike) for ends in both]
        decided[row.target] = False if False in within else None if None in within else True
    quiet = [f"{t:g}" for t in own.target if t not in decided]
    said = "; ".join(
        f"RTG {row.target:g}: {row.slope:.2f} [{row.low:.2f}, {row.high:.2f}], back {row.back:.2f} "
        f"[{row.back_low:.2f}, {row.back_high:.2f}] ({row.interval})"
        for row in moves.itertuples()
    )
    said += f"; reward-to-go moves too little at RTG {', '.join(quiet)}" if quiet else ""
    return Claim(
        id="one_count",
        text="a step on the clock moves the policy as far as reward-to-go worth a step",
        criterion=(
            f"slope of one change on the other, and back, within {low:g} to {high:g}, where one of them is "
            f"{spec.least_gap:g} nats or more, and reward-to-go's is so in the mean"
        ),
        evidence=said.removeprefix("; ") or "no state was changed",
        verdict=over_targets(decided, len(own)) if len(moves) else Verdict.NOT_APPLICABLE,
        about=About.REWARD_TO_GO,
    )


def _carried(spec: CountdownSpec, layers: pd.DataFrame, count: int) -> Claim:
    """At some point inside the model all of steps left is in the last state's stream."""
    inner = layers[layers.point.between(1, count - 1)]
    decided, said = {}, []
    for target, rows in inner.groupby("target"):
        points = {
            point: _holds_all(spec, part) for point, part in rows.groupby("point")
        }  # True, False or None
        decided[target] = (
            True if True in points.values() else None if None in points.values() else False
        )
        first = next((p for p, holds in points.items() if holds), None)
        last = rows[(rows.point == count - 1) & (rows.direction == DENOISE)].set_index("source").rho
        values = ", ".join(f"{name} {last.get(name, math.nan):.2f}" for name in SOURCES)
        where = "nowhere" if first is None else f"from block {first} on"
        said.append(f"RTG {target:g}: {where}; before the last block, denoise: {values}")
    return Claim(
        id="last_state_counts",
        text="the last state holds how many steps are left before the last block",
        criterion=(
            f"inside the model its stream restores more than {spec.carried:g} of the change, denoise and "
            f"noise, whether the other run differs in reward-to-go, in the clock, or is another episode with "
            f"as many steps left; and less, if that has the receiver's steps left"
        ),
        evidence="; ".join(said) or "there is no point between blocks, or nothing moved",
        verdict=over_targets(decided, len(decided)) if decided else Verdict.NOT_APPLICABLE,
        about=About.REWARD_TO_GO,
    )


def _holds_all(spec: CountdownSpec, part: pd.DataFrame) -> bool | None:
    conditions: list[bool | None] = []
    for direction in (DENOISE, NOISE):
        rows = part[part.direction == direction].set_index("source")
        for source in SOURCES:
            if source not in rows.index or rows.n[source] < MINIMUM:
                conditions.append(None)
                continue
            must = Relation.BELOW if source == RECEIVER_STEPS else Relation.ABOVE
            ends = float(rows.low[source]), float(rows.high[source])
            conditions.append(must.decides(ends, spec.carried))
    return False if False in conditions else None if None in conditions else True


def _follows(spec: CountdownSpec, played: pd.DataFrame, curve: pd.DataFrame) -> Claim:
    twin = curve[(curve.model != TRAINED) & (curve.how == SAMPLED)].set_index(["offset", "target"])
    decided, said = {}, []
    for target, rows in played.groupby("target"):
        conditions: list[bool | None] = []
        for row in rows.itertuples():
            other = twin.loc[(row.offset, target)]
            conditions.append(_within((row.low, row.high), row.n, spec.follows))
            conditions.append(
                Relation.ABOVE.decides((row.low, row.high), (float(other.low), float(other.high)))
            )
            said.append(
                f"RTG {target:g}, clock {row.offset:+d}: {row.followed:.2f} [{row.low:.2f}, {row.high:.2f}] "
                f"({row.interval}; untrained {other.followed:.2f})"
            )
        decided[target] = False if False in conditions else None if None in conditions else True
    low, high = spec.follows
    return Claim(
        id="follows_the_clock",
        text="with the clock reset, episodes end as many steps earlier or later",
        criterion=(
            f"at every offset {low:g} to {high:g} of it, and more than in an untrained model"
        ),
        evidence="; ".join(said) or "no target leaves room for another clock",
        verdict=over_targets(decided, len(decided)) if decided else Verdict.NOT_APPLICABLE,
        about=About.REWARD_TO_GO,
    )


def _on_diagonal(spec: CountdownSpec, curve: pd.DataFrame, distance: float | None) -> Claim:
    greedy = curve[(curve.model == TRAINED) & (curve.how == GREEDY)]
    reset = greedy[(greedy.offset != 0) & greedy.possible]
    shares = {offset: rows.followed.mean() for offset, rows in reset.groupby("offset")}
    low, high = spec.follows
    assert distance is not None
    near = distance <= spec.diagonal
    holds = near and bool(shares) and all(low <= share <= high for share in shares.values())
    said = ", ".join(f"clock {offset:+d}: {share:.2f} of it" for offset, share in shares.items())
    return Claim(
        id="diagonal_by_counting",
        text="the greedy curve lies on the diagonal because the model counts",
        criterion=(
            f"greedy return is at most {spec.diagonal:g} off the target in the mean over targets, and greedy "
            f"episodes follow every reset clock by {low:g} to {high:g} of it"
        ),
        evidence=f"{distance:.3f} off; followed: {said or 'not measured'} (all layouts)",
        verdict=Verdict.of(holds),
        about=About.REWARD_TO_GO,
    )


def _time_is_up(spec: CountdownSpec, probes: pd.DataFrame) -> Claim:
    rows = probes[probes.what == TIME_IS_UP] if len(probes) else probes
    decided, said = {}, []
    for source, part in rows.groupby("source") if len(rows) else ():
        best = part.loc[part.low.fillna(-np.inf).idxmax()]
        enough = Relation.ABOVE.decides((best.low, best.high), spec.least_margin)
        decided[source] = enough if best.n >= MINIMUM else None
        said.append(
            f"{source}: margin {best.margin:.2f} [{best.low:.2f}, {best.high:.2f}] ({best.interval}) over "
            f"{best.best}, before block {best.point}"
        )
    conditions = decided.values()
    return Claim(
        id="time_is_up_is_read",
        text="a linear probe reads that time is up better than from the inputs or an untrained model",
        criterion=(
            f"margin of explained variance above {spec.least_margin:g} at one point, on demonstrations and "
            f"own play, held-out episodes and observations"
        ),
        evidence="; ".join(said) or "steps left do not vary enough",
        verdict=Verdict.judge(conditions) if decided else Verdict.NOT_APPLICABLE,
        about=About.REWARD_TO_GO,
    )


def over_targets(decided: Mapping[float, bool | None], of: int) -> Verdict:
    """Confirmed if it holds at all ``of`` targets; depends if at some; else not confirmed or not decided."""
    holding = [value for value in decided.values() if value]
    if holding:
        return Verdict.of(len(holding) == of, partly=True)
    return Verdict.NOT_DECIDED if None in decided.values() else Verdict.NOT_CONFIRMED


def _within(ends: Ends, n: int, limits: Ends) -> bool | None:
    """Whether an interval lies within limits: None if it does not tell, or rests on too little."""
    if n < MINIMUM:
        return None
    inside: list[bool | None] = [
        Relation.ABOVE.decides(ends, limits[0]),
        Relation.BELOW.decides(ends, limits[1]),
    ]
    return False if False in inside else None if None in inside else True
