"""Play a scene in worlds of minigrid itself: the original run and the edited one.

Runs are kept by their scene's parts, and a run that is one action longer than a kept one costs one step.

Letters: t states of a run, t - 1 actions.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from dtx.app.places import Place, world_at_start
from dtx.app.scene import LETTERS, Message, Scene
from dtx.env.actions import ACTIONS
from dtx.env.encoding import VIEW
from dtx.pairs.apply import edit_actions, edit_observations, edit_rewards_to_go, edit_world
from dtx.pairs.edits import STATE_OPS, Edit, Impossible, problems, read
from dtx.pairs.runs import Run, act_once, copied

if TYPE_CHECKING:
    from minigrid.minigrid_env import MiniGridEnv

EDIT = "scene"
"""Name of a scene's edit in messages."""
KEPT = 256
"""Runs that are kept."""


@dataclass(frozen=True)
class Frame:
    """A state of a world.

    Attributes:
        grid: (width, height, 3) uint8, as MiniGrid encodes it. view: (7, 7, 3) uint8, what the agent sees.
        seen: (width, height) bool, cells that it sees. agent: x, y, direction (0 right, 1 down, ...).
        carrying: Object, colour, state, or -1. reward: Of the action that led here.
        over: How the episode ended here: success, failure, limit; empty if it goes on.
    """

    grid: np.ndarray
    view: np.ndarray
    seen: np.ndarray
    agent: tuple[int, int, int]
    carrying: tuple[int, int, int]
    reward: float
    over: str


@dataclass(frozen=True)
class Side:
    """One run of a scene: the original or the edited one.

    Attributes:
        frames: t states. actions: t - 1 numbers.
        views: (t, 7, 7, 3) uint8, what the model is given; observation edits are in it.
        reward_to_go: (t,) float32, what the model is given.
        unusual: (t,) bool, where an edit put into the view what no world shows.
    """

    frames: tuple[Frame, ...]
    actions: tuple[int, ...]
    views: np.ndarray
    reward_to_go: np.ndarray
    unusual: np.ndarray

    @property
    def states(self) -> int:
        """t."""
        return len(self.frames)

    @property
    def rewards(self) -> np.ndarray:
        """(t - 1,) float32."""
        return np.array([frame.reward for frame in self.frames[1:]], np.float32)

    def run(self, states: int) -> Run:
        """The first states as a run of the pairs; it has no picture."""
        return Run(
            observations=list(self.views[:states]),
            actions=list(self.actions[: states - 1]),
            rewards=[frame.reward for frame in self.frames[1:states]],
            visible=[frozenset()] * states,
            rewards_to_go=self.reward_to_go[:states],
            grid=self.frames[0].grid,
        )


@dataclass(frozen=True)
class Played:
    """Both runs of a scene.

    Attributes:
        scene: As it was played: its world named, actions behind the episode's end dropped, the cursor a step.
        place: Where. edited: None without edits, or where they are impossible. impossible: Why, else "".
        messages: What of the scene was not as asked.
    """

    scene: Scene
    place: Place
    original: Side
    edited: Side | None
    impossible: str
    messages: tuple[Message, ...]

    @property
    def cursor(self) -> int:
        """Step of the state that is looked at, from 1."""
        assert self.scene.cursor is not None
        return self.scene.cursor

    @property
    def changed(self) -> list[str]:
        """Tokens up to the cursor that differ between the two: ``S1``, ``R5``."""
        from dtx.pairs.making import changed

        if self.edited is None or self.edited.states < self.cursor:
            return []
        return changed(self.original.run(self.cursor), self.edited.run(self.cursor))


def play(scene: Scene, place: Place, reward_to_go: float) -> Played:
    """Play a scene.

    Args:
        scene: Any valid one.
        place: Where.
        reward_to_go: At the start, where the scene names none.

    Raises:
        UserError: The place has no such world.
    """
    told: list[Message] = []
    world = place.known(scene.world)
    actions = _allowed(scene, place, told)
    start = reward_to_go if scene.reward_to_go is None else scene.reward_to_go
    frames = _RUNS.frames(place, world, (), actions)
    if len(frames) <= len(actions):
        told.append(
            Message("actions", f"the episode ends after {len(frames) - 1}; the rest is left out")
        )
    taken = actions[: len(frames) - 1]
    original = _side(frames, taken, start, scene.tokens)
    cursor = original.states if scene.cursor is None else min(scene.cursor, original.states)
    if scene.cursor is not None and scene.cursor > original.states:
        told.append(Message("cursor", f"there are {original.states} states; the last is shown"))
    edited, impossible = None, ""
    if scene.edits:
        try:
            edited = _edited(scene.replace(cursor=cursor), place, world, original, start)
        except Impossible as reason:
            impossible = str(reason)
    letters = "".join(LETTERS[action] for action in taken)
    known = scene.replace(
        env=scene.env and place.id, world=world, actions=letters, cursor=cursor, reward_to_go=start
    )
    return Played(known, place, original, edited, impossible, tuple(told))


def longer(played: Played, side: str, actions: tuple[int, ...]) -> Side:
    """One of both runs with other actions, up to its end: how it goes on.

    Args:
        played: As :func:`play` gives it. side: ``original`` or ``edited``. actions: Numbers, from the start.
    """
    scene, place = played.scene, played.place
    assert scene.reward_to_go is not None
    if side == "edited":
        run = dataclasses.replace(played.original, actions=actions)
        return _edited(scene, place, scene.world, run, scene.reward_to_go)
    frames = _RUNS.frames(place, scene.world, (), actions)
    return _side(frames, actions[: len(frames) - 1], scene.reward_to_go, scene.tokens)


def declared(edits: Sequence[Mapping[str, Any]], place: Place) -> list[Edit]:
    """The edits of a scene, checked as those of a pairs file are.

    Raises:
        Impossible: One is wrong; says which and why.
    """
    raw = {EDIT: tuple(edits)}
    for where, problem in problems(raw, place.environment):
        number = int(where.partition("[")[2].partition("]")[0] or 0)
        edit = Edit(EDIT, number, str(edits[number].get("op")), edits[number])
        raise Impossible(edit, f"{where.rpartition('.')[2]}: {problem}")
    return read(raw)[EDIT]


def _allowed(scene: Scene, place: Place, told: list[Message]) -> tuple[int, ...]:
    numbers = [LETTERS.index(letter) for letter in scene.actions]
    known = [number for number in numbers if number < len(place.actions)]
    if known != numbers:
        names = {ACTIONS[number] for number in numbers} - set(place.actions)
        told.append(Message("actions", f"{place.id} has no {', '.join(sorted(names))}; left out"))
    horizon = place.environment.horizon
    if len(known) > horizon:
        told.append(Message("actions", f"an episode has at most {horizon}; the rest is left out"))
    return tuple(known[:horizon])


def _side(
    frames: Sequence[Frame], actions: Sequence[int], start: float, tokens: Mapping[int, float]
) -> Side:
    rewards = np.cumsum([0.0, *(frame.reward for frame in frames[1:])])
    to_go = (np.float32(start) - rewards).astype(np.float32)
    for step, value in tokens.items():
        if step <= len(to_go):
            to_go[step - 1] = value
    views = np.stack([frame.view for frame in frames])
    return Side(tuple(frames), tuple(actions), views, to_go, np.zeros(len(frames), bool))


def _edited(scene: Scene, place: Place, world: str, original: Side, start: float) -> Side:
    """The edited run: the edited world, the same actions but for those that are set, then what is seen."""
    assert scene.cursor is not None
    edits = [at_cursor(edit, scene.cursor) for edit in declared(scene.edits, place)]
    actions = tuple(edit_actions(np.array(original.actions, np.int64), edits).tolist())
    of_world = tuple(edit for edit in edits if edit.op in STATE_OPS)
    frames = _RUNS.frames(place, world, of_world, actions)
    side = _side(frames, actions[: len(frames) - 1], start, scene.tokens)
    views = edit_observations(side.views, edits, place.roles)
    return dataclasses.replace(
        side,
        views=views,
        reward_to_go=edit_rewards_to_go(side.reward_to_go, edits),
        unusual=(views != side.views).any((1, 2, 3)),
    )


def at_cursor(edit: Edit, cursor: int) -> Edit:
    """An edit whose ``first`` and ``last`` are numbers: a pair ends at the cursor, whatever comes after."""
    fields = dict(edit.fields)
    for name, last in (("frame", cursor - 1), ("step", max(cursor - 2, 0))):
        if fields.get(name) in ("first", "last"):
            fields[name] = 0 if fields[name] == "first" else last
    if fields.get("scope") == "last":
        fields |= {"scope": "index", "index": cursor - 1}
    return dataclasses.replace(edit, fields=fields)


class _Runs:
    """Runs that were played, by place, world, edits and actions; each with the world at its end."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple, tuple[tuple[Frame, ...], MiniGridEnv]] = OrderedDict()
        self._lock = Lock()  # two lanes play

    def frames(
        self,
        place: Place,
        world: str,
        edits: Sequence[Edit],
        actions: tuple[int, ...],
    ) -> tuple[Frame, ...]:
        """The states of a run, up to the end of its episode.

        Raises:
            Impossible: The world does not allow the edits.
        """
        with self._lock:
            return self._played((place, world, repr(edits)), place, edits, actions)[0]

    def _played(
        self, key: tuple, place: Place, edits: Sequence[Edit], actions: tuple[int, ...]
    ) -> tuple[tuple[Frame, ...], MiniGridEnv]:
        known = (*key, actions)
        if known in self._kept:
            self._kept.move_to_end(known)
            return self._kept[known]
        done, frames, now = self._nearest(key, place, edits, actions)
        if done < len(actions) and not frames[-1].over:
            now = copied(now)
        found = list(frames)
        for action in actions[done:]:
            if found[-1].over:
                break
            view, reward, terminated, truncated = act_once(now, action)
            over = ""
            if terminated:
                over = "success" if reward > 0 else "failure"
            elif truncated or len(found) >= place.environment.horizon:
                over = "limit"
            found.append(_frame(now, view, reward, over))
        return self._keep(known, tuple(found), now)

    def _nearest(
        self, key: tuple, place: Place, edits: Sequence[Edit], actions: tuple[int, ...]
    ) -> tuple[int, tuple[Frame, ...], MiniGridEnv]:
        """The longest kept run that begins as this one: its actions, states, and world."""
        for done in range(len(actions) - 1, -1, -1):
            known = (*key, actions[:done])
            if known in self._kept:
                return done, *self._kept[known]
        world = copied(world_at_start(place, key[1]))
        if edits:
            edit_world(world, edits, place.roles)
        start = (_frame(world, world.gen_obs()["image"], 0.0, ""),)
        return 0, *self._keep((*key, ()), start, world)

    def _keep(
        self, known: tuple, frames: tuple[Frame, ...], world: MiniGridEnv
    ) -> tuple[tuple[Frame, ...], MiniGridEnv]:
        self._kept[known] = frames, world
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return frames, world


_RUNS = _Runs()


def _frame(world: MiniGridEnv, view: np.ndarray, reward: float, over: str) -> Frame:
    held = world.carrying
    x, y = world.agent_pos
    return Frame(
        grid=world.grid.encode(),
        view=view,
        seen=seen_cells(world),
        agent=(int(x), int(y), int(world.agent_dir)),
        carrying=(-1, -1, -1) if held is None else held.encode(),
        reward=reward,
        over=over,
    )


def seen_cells(world: MiniGridEnv) -> np.ndarray:
    """Cells of a world that its agent sees, (width, height) bool."""
    _, visible = world.gen_obs_grid()
    i, j = np.nonzero(visible)
    ahead, right = np.asarray(world.dir_vec), np.asarray(world.right_vec)
    corner = np.asarray(world.agent_pos) + ahead * (VIEW - 1) - right * (VIEW // 2)
    cells = corner[None] - ahead[None] * j[:, None] + right[None] * i[:, None]
    inside = ((cells >= 0) & (cells < (world.width, world.height))).all(1)
    found = np.zeros((world.width, world.height), bool)
    found[tuple(cells[inside].T)] = True
    return found


def shown(played: Played, distances: Mapping[str, np.ndarray] | None) -> dict[str, Any]:
    """What the page draws of both runs: the ``play`` part of an answer.

    Args:
        played: Both.
        distances: By side (t,), cells that differ from the nearest observation of the training data.
    """
    env = played.place.environment
    grid = played.original.frames[0].grid
    sides = {"original": played.original, "edited": played.edited}
    return {
        "env": played.place.id,
        "width": grid.shape[0],
        "height": grid.shape[1],
        "n_actions": env.n_actions,
        "horizon": env.horizon,
        **{
            name: None if side is None else _side_shown(side, (distances or {}).get(name))
            for name, side in sides.items()
        },
        "impossible": played.impossible or None,
        "changed": played.changed,
        "same_length": played.edited is None or played.edited.states == played.original.states,
        "cursor": played.cursor,
    }


def _side_shown(side: Side, distance: np.ndarray | None) -> dict[str, Any]:
    grids, grid = _distinct([frame.grid for frame in side.frames])
    views, view = _distinct(list(side.views))
    return {
        "grids": grids,
        "grid": grid,
        "views": views,
        "view": view,
        "unusual": side.unusual,
        "seen": np.stack([frame.seen for frame in side.frames]),
        "agent": np.array([frame.agent for frame in side.frames]),
        "carrying": np.array([frame.carrying for frame in side.frames]),
        "actions": np.array(side.actions, np.int32),
        "rewards": side.rewards,
        "reward_to_go": side.reward_to_go,
        "over": side.frames[-1].over or None,
        "distance": distance,
    }


def _distinct(arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The distinct of some arrays in the order of their first time, and which of them each one is."""
    known: dict[bytes, int] = {}
    index = [known.setdefault(array.tobytes(), len(known)) for array in arrays]
    first = [index.index(i) for i in range(len(known))]
    return np.stack([arrays[i] for i in first]), np.array(index, np.int32)
