"""Quantities at stored rows of which facts are made: of the world, reward-to-go, actions, time, and joins.

A *quantity* has one of a few values at each row; each of its values is a fact, true at the rows that have
it. Which rows' windows show it is known once for all of its facts.

Letters: r rows, N steps of all episodes, D distinct states of the world.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dtx.dataset.episodes import Episodes
from dtx.dataset.facts import Availability, Facts
from dtx.dt.tokens import ACTION, KINDS, REWARD_TO_GO
from dtx.env.actions import ACTIONS
from dtx.env.environment import Environment
from dtx.env.facts import NOWHERE

SEEN, EARLIER, HIDDEN = "view", "earlier", "hidden"
"""Groups of facts of the world, by what the windows of most rows show of them."""
COMPUTED, TO_GO, ACTED, TIME = "computed", "reward_to_go", "action", "time"
"""Groups of what follows from several facts, and of what is no fact of the world."""
GROUPS = (SEEN, EARLIER, HIDDEN, COMPUTED, TO_GO, ACTED, TIME)
PARTS = 8
"""Equal parts of the rows between which there are thresholds of reward-to-go and time."""
_DIRECTIONS = ("right", "down", "left", "up")
_BESIDE = {"ahead": "ahead", "left_of_agent": "left of agent", "right_of_agent": "right of agent"}


@dataclass(frozen=True)
class Rows:
    """What is read off each stored row.

    Attributes:
        at: (r,) its step among all N. begin: (r,) the first step of its window there.
        until: (r,) the last step whose view it has: before the view comes, at an R token, the step before.
        step: (r,) its timestep. kind: (r,) place in R, S, A. view: (r,) row of the table of observations;
            -1 for an R token. weight: (r,) how often the prefix occurs.
        reads_reward_to_go: Whether the model has R tokens.
    """

    at: np.ndarray
    begin: np.ndarray
    until: np.ndarray
    step: np.ndarray
    kind: np.ndarray
    view: np.ndarray
    weight: np.ndarray
    reads_reward_to_go: bool

    def __len__(self) -> int:
        return len(self.at)

    def of_kind(self, kind: str) -> np.ndarray:
        """(r,) bool: the row is a token of that kind."""
        return self.kind == KINDS.index(kind)


@dataclass(frozen=True)
class Quantity:
    """Something that has one of a few values at each row.

    Attributes:
        names: Of the fact that it has each value; None: no fact.
        code: Gives (r,) which value each row has.
        known: Gives (r,) uint8 :class:`Availability` in the rows' windows.
        group: One of :data:`GROUPS`; None: by what most windows show of it.
    """

    names: Sequence[str | None]
    code: Callable[[], np.ndarray]
    known: Callable[[], np.ndarray]
    group: str | None = None


def of_world(facts: Facts, rows: Rows) -> Iterator[Quantity]:
    """The facts of the task, derived ones, and what lies in each cell of the world."""
    state = facts.state[rows.at]
    for name in facts.names:
        fact = facts.fact(name)
        values, code = np.unique(fact.value, return_inverse=True)
        if len(values) < 2:
            continue
        yield Quantity(
            names=[name_of(name, value) for value in values.tolist()],
            code=lambda code=code: code[state],
            known=lambda name=name: facts.availability(name, rows.at, rows.begin, rows.until),
            group=COMPUTED if fact.of else None,
        )


def of_pose(facts: Facts, rows: Rows) -> Iterator[Quantity]:
    """Where the agent is, and where it is and faces: ``agent at 1,3``, ``agent at 1,3 facing right``."""
    state, states = facts.state[rows.at], facts.states
    for columns in (states.position, np.column_stack([states.position, states.direction])):
        distinct, code = np.unique(columns, axis=0, return_inverse=True)
        code = code.ravel()
        yield Quantity(
            names=[_pose(*pose) for pose in distinct.tolist()],
            code=lambda code=code: code[state],
            known=lambda: np.full(len(rows), Availability.HIDDEN, np.uint8),
        )


def _pose(x: int, y: int, direction: int | None = None) -> str:
    facing = "" if direction is None else f" facing {_DIRECTIONS[direction]}"
    return f"agent at {x},{y}{facing}"


def name_of(fact: str, value: object) -> str | None:
    """``ball ahead``, ``instruction = ball``; a fact that is true or false has no name where it is false."""
    if isinstance(value, bool):
        return fact.replace("_", " ") if value else None
    if fact in _BESIDE:
        return f"{'nothing' if value == 'empty' else value} {_BESIDE[fact]}"
    if fact.startswith("cell_"):
        return "cell {},{} = {}".format(*fact.split("_")[1:], value)
    if fact == "direction" and isinstance(value, int):
        value = _DIRECTIONS[value]
    if fact == "carrying" and value == "empty":
        value = "nothing"
    if fact.endswith(("_x", "_y")) and value == NOWHERE:
        value = "nowhere"
    return f"{fact.replace('_', ' ')} = {value}"


def thresholds(values: np.ndarray, weight: np.ndarray, middle: bool = False) -> list[float]:
    """Thresholds between equal parts of the weight, three digits each, rising.

    Args:
        values: (r,). weight: (r,).
        middle: Also half way between the smallest and the largest, first in the list.
    """
    distinct, index = np.unique(values.astype(np.float64), return_inverse=True)
    if len(distinct) < 2:
        return []
    below = np.cumsum(np.bincount(index, weights=weight))[:-1] / weight.sum()
    between = (distinct[:-1] + distinct[1:]) / 2
    # The gap whose share below is the nearest to each part's.
    gaps = {int(np.abs(below - part / PARTS).argmin()) for part in range(1, PARTS)}
    found = [between[gap] for gap in sorted(gaps)]
    if middle:
        found.insert(0, (distinct[0] + distinct[-1]) / 2)
    return list(dict.fromkeys(float(f"{value:.3g}") for value in found))


def reward_to_go_at(episodes: Episodes, rows: Rows) -> np.ndarray:
    """(r,) the reward-to-go that a model reads at each row's step."""
    return episodes.reward_to_go[rows.at]


def of_reward_to_go(to_go: np.ndarray, rows: Rows) -> Iterator[Quantity]:
    """``reward-to-go >= t``. An R token says it itself; the later tokens of its step have it from there."""
    own = rows.of_kind(REWARD_TO_GO)
    shown = np.where(own, Availability.NOW, Availability.EARLIER)
    if not rows.reads_reward_to_go:
        shown = np.full(len(rows), Availability.HIDDEN)
    for least in sorted(thresholds(to_go, rows.weight, middle=True)):
        yield Quantity(
            names=[None, f"reward-to-go >= {least:g}"],
            code=lambda least=least: (to_go >= least).astype(np.int64),
            known=lambda: shown.astype(np.uint8),
            group=TO_GO,
        )


def of_actions(episodes: Episodes, rows: Rows) -> Quantity:
    """``action = left``: the last one that the window holds, an A token's own or that of the step before."""
    own, before = rows.of_kind(ACTION), rows.at > rows.begin
    last = np.asarray(episodes.action)[np.where(own, rows.at, np.maximum(rows.at - 1, 0))]
    there = own | before
    shown = np.where(
        own, Availability.NOW, np.where(there, Availability.EARLIER, Availability.HIDDEN)
    )
    most = int(np.asarray(episodes.action).max(initial=0))
    return Quantity(
        names=[None, *(f"action = {action_name(number)}" for number in range(most + 1))],
        code=lambda: np.where(there, last.astype(np.int64) + 1, 0),
        known=lambda: shown.astype(np.uint8),
        group=ACTED,
    )


def action_name(number: int) -> str:
    """``forward``, or ``action 9`` beyond MiniGrid's."""
    return ACTIONS[number] if number < len(ACTIONS) else f"action {number}"


def of_time(rows: Rows) -> Iterator[Quantity]:
    """``step >= t``, in the episode, whose first step is 0. Each token says it itself."""
    for least in thresholds(rows.step, rows.weight):
        yield Quantity(
            names=[None, f"step >= {int(np.ceil(least))}"],
            code=lambda least=least: (rows.step >= least).astype(np.int64),
            known=lambda: np.full(len(rows), Availability.NOW, np.uint8),
            group=TIME,
        )


def joined(facts: Facts, env: Environment, to_go: np.ndarray, rows: Rows) -> Iterator[Quantity]:
    """At the decision: which layout it is, with much or little reward-to-go, and which turn that asks for.

    Much is half way between the least and the most. A task with a decision but without layouts gives the
    joins with reward-to-go alone.
    """
    roles = env.roles
    decides = None if roles is None else roles.predicates().get("decision")
    if decides is None:
        return
    episodes = facts.episodes
    seen = np.asarray(episodes.observation)[rows.at]
    here = np.asarray(decides(np.asarray(episodes.observations)))[seen]
    much = thresholds(to_go, rows.weight, middle=True)[:1]
    high = to_go >= much[0] if much else np.zeros(len(rows), bool)
    asked = [f"reward-to-go {sign} {much[0]:g}" for sign in ("<", ">=")] if much else ["any"]
    place = "at the decision"

    unseen = rows.of_kind(REWARD_TO_GO) | (not rows.reads_reward_to_go)

    def said() -> np.ndarray:
        """Of where it is and of reward-to-go together."""
        return np.where(unseen, Availability.HIDDEN, Availability.EARLIER).astype(np.uint8)

    def told() -> np.ndarray:
        hidden = rows.of_kind(REWARD_TO_GO)
        return np.where(hidden, Availability.HIDDEN, Availability.NOW).astype(np.uint8)

    yield Quantity([None, place], lambda: here.astype(np.int64), told)
    if much:
        yield Quantity(
            [None, *(f"{place}, {name}" for name in asked)],
            lambda: np.where(here, 1 + high, 0),
            said,
            COMPUTED,
        )
    decision = env.decision
    if decision is None or not here.any():
        return
    layout = _layouts(decision, episodes, rows.at, here)
    names: list[str | None] = [f"{place}, {name}" for name in decision.layouts]

    def of_layout() -> np.ndarray:
        parts = [
            facts.availability(name, rows.at, rows.begin, rows.until) for name in _lasting(facts)
        ]
        return np.maximum.reduce([told(), *parts])

    def of_both() -> np.ndarray:
        return np.maximum(of_layout(), said())

    yield Quantity([None, *names], lambda: np.where(here, 1 + layout, 0), of_layout, COMPUTED)
    if not much:
        return
    both: list[str | None] = [f"{name}, {more}" for name in names for more in asked]
    yield Quantity(
        [None, *both], lambda: np.where(here, 1 + 2 * layout + high, 0), of_both, COMPUTED
    )
    right, wrong = (np.asarray(turn) for turn in decision.turns(range(len(decision.layouts))))
    turn = np.where(high, right[layout], wrong[layout])
    turns: list[str | None] = [f"turn asked for = {action_name(a)}" for a in range(env.n_actions)]
    yield Quantity([None, *turns], lambda: np.where(here, 1 + turn, 0), of_both, COMPUTED)


def _layouts(decision, episodes: Episodes, at: np.ndarray, here: np.ndarray) -> np.ndarray:
    """(r,) layout of each row at the decision; 0 elsewhere."""
    where = np.flatnonzero(here)
    episode = np.searchsorted(np.asarray(episodes.start), at[where], side="right") - 1
    observation = np.asarray(episodes.observation)
    pair = np.stack([observation[np.asarray(episodes.start)[episode]], observation[at[where]]], 1)
    distinct, index = np.unique(pair, axis=0, return_inverse=True)
    views = np.asarray(episodes.observations)
    found = np.asarray(decision.layout_of(views[distinct[:, 0]], views[distinct[:, 1]]))
    layout = np.zeros(len(at), np.int64)
    layout[where] = found[index.ravel()]
    return layout


def _lasting(facts: Facts) -> list[str]:
    """Facts of the task, told by cells, that change in no episode: a layout follows from these."""
    episodes, found = facts.episodes, []
    later = np.ones(len(facts.state), bool)
    later[np.asarray(episodes.start)] = False
    steps = np.flatnonzero(later)
    for name in facts.names:
        if name.startswith("cell_"):
            continue
        fact = facts.fact(name)
        if fact.of or not fact.cells.shape[1]:
            continue
        code = np.unique(fact.value, return_inverse=True)[1][facts.state]
        if (code[steps] == code[steps - 1]).all():
            found.append(name)
    return found
