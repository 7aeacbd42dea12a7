"""What the one file carries: models, worlds as tables, answers of panels that only Python computes.

Letters: w windows, t timesteps, v views, a actions.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dtx.app.address import address
from dtx.app.asked import Explorer
from dtx.app.file.weights import as_rounded, flat, not_covered
from dtx.app.file.worlds import Worlds
from dtx.app.frames import encode
from dtx.app.models import TEACHER, Chosen, Loader
from dtx.app.moment import window
from dtx.app.panels import LONG
from dtx.app.places import Place
from dtx.app.scene import OpenPanel, Scene
from dtx.app.training_data import TrainingData
from dtx.dt.load import misfit
from dtx.dt.model import DecisionTransformerModel
from dtx.errors import UserError
from dtx.training.threads import one_thread

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
        worlds: By name; none: all layouts, or the scene's world where there are no layouts.
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
        worlds: The worlds with their tables.
        changed: Largest change of a logit through the precision of the weights.
    """

    values: Mapping[str, Any]
    worlds: Worlds
    changed: float

    @property
    def states(self) -> int:
        """States of all worlds."""
        return sum(table.states for table in self.worlds.tables)

    @property
    def windows(self) -> int:
        """Windows of all models of which PyTorch's logits are there."""
        return WINDOWS * len(self.values["models"])

    @property
    def frame(self) -> bytes:
        """All of it as bytes; see :mod:`dtx.app.frames`."""
        return encode(self.values)


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
        models, changes = [], []
        for id, each in chosen.items():
            model, change = _model(each, loader.model(each), data[id], made, wanted.precision, rng)
            models.append(model)
            changes.append(change)
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
    return Contents(values, made, max(changes))


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


def _model(
    chosen: Chosen,
    model: DecisionTransformerModel,
    data: TrainingData | None,
    worlds: Worlds,
    precision: str,
    rng: np.random.Generator,
) -> tuple[dict[str, Any], float]:
    """A model as ``computing.js`` reads it, with windows and PyTorch's logits of them; how much the precision
    changes these."""
    tolerance = TOLERANCE[precision]
    try:
        weights, shapes = flat(model, precision)
    except ValueError as error:
        raise UserError(f"{chosen.id}: {error}") from error
    known, change = checked(model, worlds, precision, rng)
    if not change <= tolerance:
        raise UserError(
            f"{chosen.id}: {precision} changes logits by {change:.1g}, more than {tolerance:g}; "
            "use float32"
        )
    given = {
        "about": about_of(chosen, data),
        "cfg": model.cfg.to_dict(),
        "precision": precision,
        "weights": np.frombuffer(weights, np.uint8),
        "shapes": [[name, shape] for name, shape in shapes.items()],
        "sha256": hashlib.sha256(weights).hexdigest(),
        "checked": known,
    }
    return given, change


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
    model: DecisionTransformerModel, worlds: Worlds, precision: str, rng: np.random.Generator
) -> tuple[dict[str, Any], float]:
    """Windows of random walks with PyTorch's logits (w, a) at their last states; how much the weights'
    precision changes these."""
    cfg, rounded, change = model.cfg, as_rounded(model, precision), 0.0
    longest = worlds.pool.horizon
    if cfg.time_embedding == "learned":
        longest = min(longest, cfg.n_timesteps)
    windows, logits = [], []
    for i in range(WINDOWS):
        states = longest if i < 2 else int(rng.integers(1, min(longest, SHORT) + 1))
        views, run = worlds.walk(rng, states)
        context = window(model, run)
        logits.append(model.last_logits(context)[0].numpy())
        change = max(
            change, float(np.abs(rounded.last_logits(context)[0].numpy() - logits[-1]).max())
        )
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
    known = {
        "tolerance": TOLERANCE[precision],
        "views": np.stack([worlds.pool.views.arrays[view].ravel() for view in used]),
        "windows": windows,
        "logits": np.stack(logits),
    }
    return known, change


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
