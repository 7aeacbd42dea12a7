"""What the one file carries: models, worlds as tables, answers of panels that only Python computes.

Letters: w windows, t timesteps, v views, a actions.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dtx.app.address import address
from dtx.app.asked import Explorer, nearest_state
from dtx.app.file.tables import Pool, Table
from dtx.app.file.weights import flat, not_covered
from dtx.app.frames import exact
from dtx.app.models import TEACHER, Chosen, Loader, TrainingData
from dtx.app.moment import window
from dtx.app.panels import LONG
from dtx.app.places import Place, world_at_start
from dtx.app.play import declared
from dtx.app.scene import OpenPanel, Scene
from dtx.dt.load import misfit
from dtx.dt.model import DecisionTransformerModel
from dtx.errors import UserError
from dtx.pairs.apply import edit_world
from dtx.pairs.edits import STATE_OPS, Impossible
from dtx.pairs.runs import Run, copied
from dtx.training.threads import one_thread

if TYPE_CHECKING:
    from minigrid.minigrid_env import MiniGridEnv

KERNEL = Path(__file__).parent / "kernel.wasm"
WINDOWS = 32
"""Windows of a model whose logits by PyTorch the file carries."""
SHORT = 12
"""States of most of them, so that the check is quick; two are as long as the episode may be."""
TOLERANCE = {"float32": 1e-4, "float16": 1e-2}
"""By how much the page's logits may differ from PyTorch's, which has the weights in float32."""


@dataclass(frozen=True)
class Wanted:
    """What a file is to carry.

    Attributes:
        scene: What it shows when it is opened.
        models: As a scene names them; none: the scene's.
        worlds: By name; none: all layouts of the environment, or the scene's world where there are no layouts.
        edits: Lists of operations whose worlds are to be there beside the scene's.
        precision: Of the weights: float32 or float16.
        frozen: Panels that only Python computes, to be there for ``scenes`` and the scene.
        scenes: Further scenes of the frozen panels.
    """

    scene: Scene
    models: Sequence[str] = ()
    worlds: Sequence[str] = ()
    edits: Sequence[Sequence[Mapping[str, Any]]] = ()
    precision: str = "float32"
    frozen: Sequence[str] = ()
    scenes: Sequence[Scene] = ()


@dataclass(frozen=True)
class Contents:
    """What a file carries.

    Attributes:
        values: Plain values and arrays, as ``computing.js`` reads them.
        states: Of all worlds. windows: Of all models, with PyTorch's logits.
    """

    values: Mapping[str, Any]
    states: int
    windows: int


def contents(explorer: Explorer, wanted: Wanted) -> Contents:
    """Compute all that a file carries.

    Raises:
        UserError: A model is not covered by the page's engine, or does not fit the environment; a world is no
            table.
    """
    asked = explorer.understood(wanted.scene.json())
    place = asked.played.place
    names = [*asked.scene.models, *wanted.models]
    chosen = {c.id: c for c in map(explorer.catalogue.choose, names)}
    for each in chosen.values():
        refuse(each, place)
    data = {id: explorer.catalogue.training_data(c.entry) for id, c in chosen.items()}
    worlds = list(wanted.worlds) or list(place.worlds) or [asked.scene.world]
    worlds = list(dict.fromkeys([asked.scene.world, *map(place.known, worlds)]))
    made = Worlds(place, worlds, [*wanted.edits, asked.scene.edits])
    with one_thread():
        loader = Loader()
        rng = np.random.default_rng(0)
        models = [
            _model(c, loader.model(c), data[id], made, wanted.precision, rng)
            for id, c in chosen.items()
        ]
        frozen = list(_frozen(explorer, wanted, asked.scene, loader))
    first = next(iter(data.values()))
    values = {
        "about": _about(explorer, place, chosen, data, worlds, wanted.edits),
        "scene": asked.scene.json(),
        "models": models,
        "places": [made.values(first)],
        "frozen": frozen,
        "kernel": np.frombuffer(KERNEL.read_bytes(), np.uint8),
    }
    states = sum(table.states for table in made.tables)
    return Contents(values, states, WINDOWS * len(models))


def refuse(chosen: Chosen, place: Place) -> None:
    """Refuse a model that the page's engine cannot show.

    Raises:
        UserError: Says why, and what to do instead.
    """
    entry, shape = chosen.entry, chosen.entry.shape
    why = entry.problem
    if entry.kind == TEACHER or shape is None:
        why = why or "is no Decision Transformer or behaviour clone"
    else:
        why = why or not_covered(shape) or misfit(shape, place.environment, plays=False) or ""
    if why:
        raise UserError(f"{entry.id}: {why}; `dtx app` shows it, the one file cannot carry it")


class Worlds:
    """The tables of some worlds of an environment, and of these worlds as edited.

    Args:
        place: The environment.
        names: Of its worlds.
        edits: Lists of operations; those that are not of the world are left out.

    Raises:
        UserError: A world is no table.
    """

    def __init__(self, place: Place, names: Sequence[str], edits: Sequence[Sequence[Mapping]]):
        self.place = place
        self.pool = Pool(place.environment.n_actions, place.environment.horizon)
        self.tables: list[Table] = []
        self._complements: list[str | None] = []
        of_world = [[dict(e) for e in one if e["op"] in STATE_OPS] for one in edits]
        distinct = [one for i, one in enumerate(of_world) if one and one not in of_world[:i]]
        self.worlds = {name: self._world(name, distinct) for name in names}

    def values(self, data: TrainingData | None) -> dict[str, Any]:
        """As ``play.js`` reads it; with training data the distance of every view from the nearest one there."""
        env = self.place.environment
        shared = self.pool.arrays()
        distance = None
        if data is not None:
            near = [nearest_state(view, data) for view in self.pool.views.arrays]
            distance = np.array(near, np.int32)
        return {
            "id": self.place.id,
            "n_actions": env.n_actions,
            "horizon": env.horizon,
            "decision": env.decision is not None,
            "pool": {**shared, "curves": exact(shared["curves"]), "distance": distance},
            "worlds": self.worlds,
            "tables": [
                {**table.arrays(), "complement": complement}
                for table, complement in zip(self.tables, self._complements, strict=True)
            ],
        }

    def _world(self, name: str, edits: Sequence[Sequence[Mapping]]) -> dict[str, Any]:
        start = world_at_start(self.place, name)
        found: dict[str, Any] = {"table": self._table(start, name), "edits": []}
        for operations in edits:
            known: dict[str, Any] = {"operations": operations, "table": None, "impossible": None}
            try:
                edited = copied(start)
                edit_world(edited, declared(operations, self.place), self.place.roles)
                known["table"] = self._table(edited, f"{name}, edited")
            except Impossible as reason:
                known["impossible"] = str(reason)
            found["edits"].append(known)
        return found

    def _table(self, world: MiniGridEnv, name: str) -> int:
        table = self.pool.table(world, name)
        roles = self.place.environment.roles
        complement = None if roles is None else roles.complement
        first = self.pool.views.arrays[table.view[0]]
        self.tables.append(table)
        self._complements.append(None if complement is None else complement(first))
        return len(self.tables) - 1

    def walk(self, rng: np.random.Generator, states: int) -> tuple[np.ndarray, Run]:
        """A random walk of at most so many states: numbers of its views (t,), and the run."""
        table = self.tables[rng.integers(len(self.tables))]
        state, at, actions, rewards = 0, [0], [], []
        while len(at) < states and table.next[state, 0] >= 0:
            action = int(rng.integers(self.pool.n_actions))
            rewards.append(float(self.pool.curves[table.reward[state, action]][len(at)]))
            state = int(table.next[state, action])
            actions.append(action)
            at.append(state)
        views = table.view[at]
        start = np.float32(rng.uniform(-1, 1))
        to_go = (start - np.cumsum([0.0, *rewards])).astype(np.float32)
        observations = [self.pool.views.arrays[view] for view in views]
        return views, Run(
            observations=observations, actions=actions, rewards=rewards, rewards_to_go=to_go
        )


def _model(
    chosen: Chosen,
    model: DecisionTransformerModel,
    data: TrainingData | None,
    worlds: Worlds,
    precision: str,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """A model as ``computing.js`` reads it, with windows and PyTorch's logits of them."""
    try:
        weights, shapes = flat(model, precision)
    except ValueError as error:
        raise UserError(f"{chosen.id}: {error}") from error
    return {
        "about": about_of(chosen, data),
        "cfg": model.cfg.to_dict(),
        "precision": precision,
        "weights": np.frombuffer(weights, np.uint8),
        "shapes": [[name, shape] for name, shape in shapes.items()],
        "sha256": hashlib.sha256(weights).hexdigest(),
        "checked": checked(model, worlds, TOLERANCE[precision], rng),
    }


def about_of(chosen: Chosen, data: TrainingData | None) -> dict[str, Any]:
    """What the page is told of a model that is there."""
    returns = None if data is None else data.returns.about()
    return {
        **chosen.entry.about(),
        "id": chosen.id,
        "step": chosen.step,
        "reward_to_go": returns,
        "problem": None,
    }


def checked(
    model: DecisionTransformerModel, worlds: Worlds, tolerance: float, rng: np.random.Generator
) -> dict[str, Any]:
    """Windows of random walks, and PyTorch's logits (w, a) at their last states."""
    cfg = model.cfg
    longest = worlds.pool.horizon
    if cfg.time_embedding == "learned":
        longest = min(longest, cfg.n_timesteps)
    windows, logits = [], []
    for i in range(WINDOWS):
        states = longest if i < 2 else int(rng.integers(1, min(longest, SHORT) + 1))
        views, run = worlds.walk(rng, states)
        context = window(model, run)
        logits.append(model.last_logits(context)[0].numpy())
        steps = context["timestep"].shape[1]
        begin = max(0, len(views) - cfg.n_steps)
        windows.append(
            {
                "view": [-1] * (steps - len(views) + begin) + views[begin:].tolist(),
                "actions": context["action"][0].tolist(),
                "rewards": context["reward_to_go"][0].tolist(),
                "timesteps": context["timestep"][0].tolist(),
            }
        )
    used = sorted({view for one in windows for view in one["view"] if view >= 0})
    place = {view: i for i, view in enumerate(used)} | {-1: -1}
    for one in windows:
        one["view"] = [place[view] for view in one["view"]]
    return {
        "tolerance": tolerance,
        "views": np.stack([worlds.pool.views.arrays[view].ravel() for view in used]),
        "windows": windows,
        "logits": np.stack(logits),
    }


def _frozen(
    explorer: Explorer, wanted: Wanted, first: Scene, loader: Loader
) -> Iterator[dict[str, Any]]:
    """Answers of panels to scenes."""
    for name in wanted.frozen:
        if name not in explorer.panels:
            raise UserError(f"no panel {name!r}; there are {', '.join(explorer.panels)}")
        open_first = next((p.parameters for p in first.panels or () if p.name == name), {})
        for scene in (first, *wanted.scenes):
            panel = OpenPanel(name, open_first)
            if explorer.panels[name].when == LONG:
                *_, (_, answer) = explorer.long(scene.json(), panel, loader, lambda: False)
            else:
                answer = explorer.ask(scene.json(), [panel], loader)
            asked = explorer.understood(scene.json()).scene
            yield {
                "panel": name,
                "parameters": dict(open_first),
                "scene": asked.json(),
                "address": address(dataclasses.replace(asked, panels=None)),
                "answers": answer["panels"][name],
            }


def _about(
    explorer: Explorer,
    place: Place,
    chosen: Mapping[str, Chosen],
    data: Mapping[str, TrainingData | None],
    worlds: Sequence[str],
    edits: Sequence[Sequence[Mapping[str, Any]]],
) -> dict[str, Any]:
    """What of all that the explorer has is in the file."""
    models: dict[str, dict[str, Any]] = {}
    for id, each in chosen.items():
        known = models.setdefault(
            each.entry.id,
            about_of(Chosen(each.entry, None), data[id]) | {"checkpoints": []},
        )
        if each.step is not None:
            known["checkpoints"] = sorted({*known["checkpoints"], each.step})
    env = place.about()
    carried = [[dict(e) for e in one] for one in edits]
    env |= {
        "worlds": list(worlds),
        "seeds": False,
        "edits": [edit for edit in env["edits"] if list(map(dict, edit["operations"])) in carried],
    }
    return explorer.about() | {
        "engine": "file",
        "where": "one file",
        "models": list(models.values()),
        "envs": [env],
    }
