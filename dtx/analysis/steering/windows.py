"""The windows of a goal: where something else is wanted, and where nothing may change.

Letters: b windows, t steps, n tokens, a actions.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.analysis.core.windows import distinct_inputs
from dtx.analysis.steering.spec import Detour, Goal, Place, SteeringSpec
from dtx.dt.context import Context
from dtx.dt.history import History
from dtx.dt.model import DecisionTransformerModel
from dtx.env.decision import Decision
from dtx.errors import UserError
from dtx.pairs.pair_set import PairSet

CHANGE, KEEP, TOWARDS = "change", "keep", "towards"
DEMONSTRATIONS = "demonstrations"
"""In the column ``place``: windows that were recorded, not made."""


@dataclass(frozen=True)
class GoalBatch:
    """Windows of one length.

    Attributes:
        context: b windows. source: The windows that they shall be like, if there are such.
        table: b rows: kind (change | keep | towards), held_out, place, layout, reward_to_go, detour.
        base: (b, a) unsteered log-probabilities at the last state. wanted: (b, a) probabilities.
    """

    context: Context
    source: Context | None
    table: pd.DataFrame
    base: Tensor
    wanted: Tensor

    def where(self, chosen: np.ndarray) -> GoalBatch:
        """Some of the windows; ``chosen`` is a mask (b,) bool."""
        index = torch.from_numpy(np.flatnonzero(chosen))
        return GoalBatch(
            context=self.context[index],
            source=None if self.source is None else self.source[index],
            table=self.table[chosen].reset_index(drop=True),
            base=self.base[index],
            wanted=self.wanted[index],
        )


@dataclass(frozen=True)
class GoalWindows:
    """All windows of a goal, equal ones once."""

    batches: list[GoalBatch]

    def part(self, kind: str | None = None, held_out: bool | None = None) -> GoalWindows:
        """Those of a kind, and of training or held out."""
        parts = []
        for batch in self.batches:
            chosen = np.ones(len(batch.table), bool)
            if kind is not None:
                chosen &= (batch.table["kind"] == kind).to_numpy()
            if held_out is not None:
                chosen &= (batch.table["held_out"] == held_out).to_numpy()
            if chosen.any():
                parts.append(batch.where(chosen))
        return GoalWindows(parts)

    def every(self, step: int) -> GoalWindows:
        """One window of so many."""
        parts = [b.where(np.arange(len(b.table)) % step == 0) for b in self.batches]
        return GoalWindows(parts)

    def __len__(self) -> int:
        """How many."""
        return sum(len(batch.table) for batch in self.batches)

    @property
    def distinct(self) -> int:
        """Distinct windows."""
        return sum(distinct_inputs(batch.context) for batch in self.batches)


def asked(context: Context, reward_to_go: float) -> Context:
    """The same windows asked for another reward-to-go from the start on."""
    changed = context.clone()
    changed["reward_to_go"] = torch.full_like(context["reward_to_go"], reward_to_go)
    return changed


class WindowMaker:
    """Makes the windows of goals; plays every sequence of actions once.

    Args:
        spec: Detours, and what is held out.
        model: That reads the windows.
        decision: Of the environment, for goals that name places.
        pairs: For goals on an edit of them.
        demonstrated: Windows of demonstrations, where nothing may change.
    """

    def __init__(
        self,
        spec: SteeringSpec,
        model: DecisionTransformerModel,
        decision: Decision | None,
        pairs: PairSet | None = None,
        demonstrated: Context | None = None,
    ):
        self.spec, self.model, self.decision = spec, model, decision
        self.pairs, self.demonstrated = pairs, demonstrated
        self._seen: dict[tuple, np.ndarray] = {}

    @torch.no_grad()
    def windows(self, goal: Goal) -> GoalWindows:
        """Of a goal.

        Raises:
            UserError: A place cannot be reached, or nothing is left to learn from or to judge on.
        """
        batches = self._declared(goal) if goal.pairs is None else self._pairs(goal)
        batches += self._demonstrations(goal, batches)
        windows = GoalWindows([self._known(goal, *batch) for batch in batches])
        for kind, held_out in ((CHANGE, False), (CHANGE, True), (KEEP, True)):
            if not len(windows.part(kind, held_out)):
                which = "held-out" if held_out else "training"
                raise UserError(f"goal {goal.claim!r}: there are no {which} windows to {kind}")
        return windows

    def _known(
        self, goal: Goal, context: Context, source: Context | None, table: pd.DataFrame
    ) -> GoalBatch:
        base = self.model(context)[:, -1].log_softmax(-1)
        wanted = base.exp()
        if goal.action is not None:
            rows = torch.from_numpy((table["kind"] == CHANGE).to_numpy(copy=True))
            wanted[rows] = 0.0
            wanted[rows, goal.action.number] = 1.0
        elif source is not None:
            wanted = self.model(source)[:, -1].softmax(-1)
        return GoalBatch(context, source, table, base, wanted)

    def _declared(self, goal: Goal) -> list[tuple[Context, Context | None, pd.DataFrame]]:
        """Windows on and beside the routine, one batch a length."""
        spec, held, decision = self.spec, self.spec.held_out, self._decision
        plain = Detour(before=0, actions=())
        rows: dict[tuple, dict[str, object]] = {}
        places = [(CHANGE, p) for p in goal.change] + [(KEEP, p) for p in goal.keep]
        places += [(TOWARDS, goal.towards)] if goal.towards else []
        for kind, place in places:
            for detour in (plain, *spec.detours, *held.detours):
                for layout in place.layouts or decision.layouts:
                    actions = self._actions(place, detour, layout)
                    for asked_for in place.reward_to_go if actions is not None else ():
                        read = asked_for if self.model.cfg.reward_to_go else 0.0
                        rows.setdefault((layout, actions, read, kind == TOWARDS), {
                            "kind": kind,
                            "held_out": detour in held.detours
                            or asked_for in held.reward_to_go
                            or layout in held.layouts,
                            "place": _name(place), "layout": layout, "reward_to_go": asked_for,
                            "detour": " ".join(a.value for a in detour.actions),
                            "actions": actions,
                        })  # fmt: skip
        table = pd.DataFrame(rows.values())
        batches = []
        for length, group in table.groupby(table["actions"].map(len)):
            history = History(self.model.cfg, len(group), int(length) + 1)
            seen = np.stack(
                [self._play(r.layout, r.actions) for r in group.itertuples()]  # type: ignore[arg-type]
            )
            taken = np.array([list(a) for a in group["actions"]], np.int64)
            for step in range(seen.shape[1]):
                history.see(seen[:, step], group["reward_to_go"].to_numpy(np.float32))
                if step < taken.shape[1]:
                    history.act(taken[:, step])
            context = history.context(np.arange(len(group)))
            source = None if goal.like is None else asked(context, goal.like)
            batches.append((context, source, group.drop(columns="actions").reset_index(drop=True)))
        return batches

    def _actions(self, place: Place, detour: Detour, layout: str) -> tuple[int, ...] | None:
        """The way to a place; None where the detour begins behind it."""
        decision = self._decision
        steps = decision.step if place.steps is None else place.steps
        way = list(decision.routine(decision.layouts.index(layout)))
        if not 0 <= steps < len(way):
            raise UserError(f"steps={steps}: the routine has {len(way)}, and ends the episode")
        if detour.actions and detour.before > steps:
            return None
        way = way[:steps]
        way[detour.before : detour.before] = [a.number for a in detour.actions]
        return (*map(int, way), *(a.number for a in place.then))

    def _play(self, layout: str, actions: tuple[int, ...]) -> np.ndarray:
        """(t, 7, 7, 3) observations of a layout under actions."""
        if (layout, actions) not in self._seen:
            world = self._decision.make(self._decision.layouts.index(layout))
            seen = [world.reset(seed=0)[0]["image"]]
            for action in actions:
                observation, _, terminated, truncated, _ = world.step(action)
                seen.append(observation["image"])
                if terminated or truncated:
                    raise UserError(f"actions {actions} end the episode in {layout}")
            world.close()
            self._seen[layout, actions] = np.stack(seen)
        return self._seen[layout, actions]

    @property
    def _decision(self) -> Decision:
        if self.decision is None:
            raise UserError("goals that name places need an environment with a decision")
        return self.decision

    def _pairs(self, goal: Goal) -> list[tuple[Context, Context | None, pd.DataFrame]]:
        """Corrupt runs, which shall be as the clean ones, and null pairs, which shall stay as they are.

        Every second pair is held out.
        """
        assert self.pairs is not None
        batches = []
        for batch in self.pairs.batches(self.model):
            edited = batch.kind("edit") & (batch.table["edit"] == goal.pairs).to_numpy()
            for kind, chosen in ((CHANGE, edited), (KEEP, batch.kind("null"))):
                if not chosen.any():
                    continue
                part = batch.where(chosen)
                table = pd.DataFrame({
                    "kind": kind, "held_out": np.arange(len(part)) % 2 == 1, "place": kind,
                    "layout": part.table["variant"].astype(str),
                    "reward_to_go": part.table["reward_to_go"], "detour": "",
                })  # fmt: skip
                own = part.corrupt if kind == CHANGE else part.clean
                batches.append((own, part.clean if kind == CHANGE else None, table))
        return batches

    def _demonstrations(
        self, goal: Goal, others: list
    ) -> list[tuple[Context, Context | None, pd.DataFrame]]:
        """Demonstrations' windows, without those whose last observation is one where change is wanted.

        A goal that wants the model to act as when asked for much changes nothing there, so then they are
        asked for that.
        """
        context = self.demonstrated
        if context is None:
            return []
        wanted = {
            row
            for other, _, rows in others
            for row, kind in zip(_last(other), rows["kind"], strict=True)
            if kind == CHANGE
        }
        free = np.array([row not in wanted for row in _last(context)])
        if not free.any():
            return []
        context = context[torch.from_numpy(np.flatnonzero(free))]
        if goal.like is not None:
            context = asked(context, goal.like)
        rows = pd.DataFrame({
            "kind": KEEP, "held_out": np.arange(free.sum()) % 2 == 1, "place": DEMONSTRATIONS,
            "layout": "", "reward_to_go": context["reward_to_go"][:, 0].numpy(), "detour": "",
        })  # fmt: skip
        return [(context, None, rows)]


def _name(place: Place) -> str:
    steps = "decision" if place.steps is None else f"step {place.steps}"
    return " ".join([steps, *(a.value for a in place.then)])


def _last(context: Context) -> list[bytes]:
    """The last observation of each window."""
    if "one_hot" in context:
        return [row.numpy().tobytes() for row in context["one_hot"][:, -1]]
    rows = context["table"][context["observation"][:, -1]]
    return [row.numpy().tobytes() for row in rows]


def towards(windows: GoalWindows) -> GoalWindows:
    """The windows that activations are taken from: those asked for otherwise, or those named."""
    change = windows.part(CHANGE, held_out=False)
    if all(batch.source is not None for batch in change.batches):
        return GoalWindows([dataclasses.replace(b, context=b.source) for b in change.batches])
    return windows.part(TOWARDS, held_out=False)
