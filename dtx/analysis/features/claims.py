"""What is said of features and facts, and when it holds."""

from __future__ import annotations

from collections.abc import Mapping

from dtx.analysis.core.verdicts import MINIMUM, Claim, Relation, Verdict
from dtx.analysis.features.margins import Group
from dtx.analysis.features.spec import ALWAYS_ON, FROZEN, INPUT, UNTRAINED

ALL = "all"
"""The name of all groups together."""
WORDS = {
    ALL: "facts",
    "view": "facts that the current view tells",
    "earlier": "facts that an earlier view told",
    "hidden": "facts that no view of the window told",
    "computed": "facts joined of several",
    "reward_to_go": "reward-to-go",
    "action": "the action",
    "time": "the time",
}
"""Groups of facts in a sentence."""


def claims(groups: Mapping[str, Group]) -> list[Claim]:
    """One of all facts and one of each group: beyond the input and untrained networks."""
    return [_claim(name, group) for name, group in groups.items()]


def _claim(name: str, group: Group) -> Claim:
    seeds = group.f1.n
    conditions = [
        Relation.ABOVE.decides(interval, 0.0)
        for rival in (ALWAYS_ON, INPUT, FROZEN)
        for interval in group.margin_over(rival)
    ]
    conditions.append(Relation.ABOVE.decides(group.f1, group.next_untrained))
    enough = seeds >= MINIMUM
    conditions.append(True if enough else None)
    few = "" if enough else f"; {seeds} of {MINIMUM} seeds of the dictionary"
    over = ", ".join(
        f"{rival} {_ends(group, rival)}" for rival in (ALWAYS_ON, INPUT, UNTRAINED, FROZEN)
    )
    return Claim(
        id=f"beyond_{name}",
        text=f"features tell {WORDS.get(name, name)} beyond the input and untrained networks",
        criterion="the mean F1 of the best features, minus always on, minus the input's one-hots, and minus "
        "a frozen decoder's, is above 0 beyond its intervals over seeds and over groups of episodes; it is "
        f"above that of one more untrained network; at least {MINIMUM} seeds",
        evidence=f"mean F1 {group.f1.value:.2f} of {group.facts} facts; margin over {over}; one more "
        f"untrained network {_interval(group.next_untrained.low, group.next_untrained.high)}; "
        f"{group.beyond} facts beyond all{few}",
        verdict=Verdict.judge(conditions),
    )


def _ends(group: Group, rival: str) -> str:
    seeds, episodes = group.margin_over(rival)
    wider = max((seeds, episodes), key=lambda e: e.high - e.low if e.low == e.low else -1.0)
    return f"{seeds.value:+.2f} {_interval(wider.low, wider.high, '+')}"


def _interval(low: float, high: float, sign: str = "") -> str:
    return f"[{low:{sign}.2f}, {high:{sign}.2f}]"
