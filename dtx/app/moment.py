"""What a panel computes from: a model and both runs of a scene, up to the state that is looked at.

Letters: n tokens of a window, a actions, t states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dtx.app.models import Chosen, TrainingData
from dtx.app.pairing import pair_of
from dtx.app.places import Place, world_at_start
from dtx.app.play import Played
from dtx.app.scene import Scene
from dtx.dt.context import Context
from dtx.dt.history import History
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.tokens import PADDING, NamedTokens, kind_of
from dtx.env.environment import Environment
from dtx.errors import UserError
from dtx.pairs.runs import Run, copied
from dtx.pairs.single import OnePair

if TYPE_CHECKING:
    from pathlib import Path

    from minigrid.minigrid_env import MiniGridEnv

    from dtx.store.store import Store


class Side:
    """One run as a model reads it, up to the cursor.

    Attributes:
        name: ``original`` or ``edited``.
        run: Up to the cursor.
        context: One window, which ends there.
        tokens: Of the window; steps count from the episode's start.
    """

    def __init__(self, name: str, model: DecisionTransformerModel, run: Run):
        self.name, self.run, self._model = name, run, model
        self.context = window(model, run)
        self.tokens = tokens(model, len(run.observations))
        self.wanted: set[str] = set()
        self._known: dict[str, Tensor] = {}
        self._logits: Tensor | None = None

    @property
    def logits(self) -> Tensor:
        """(a,) at the last state."""
        if self._logits is None:
            if self.wanted:
                self.activations(())
            else:
                with torch.no_grad():
                    self._logits = self._model.last_logits(self.context)[0]
        assert self._logits is not None
        return self._logits

    def activations(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Activations (1, n, ...) by hook name; one forward pass keeps all that panels said they want.

        Raises:
            UserError: A name is no activation that is computed.
        """
        names = set(names)
        if not names <= self._known.keys() or self._logits is None:
            with torch.no_grad():
                logits, cache = self._model.run_with_cache(
                    self.context, names_filter=names | self.wanted
                )
            self._known |= dict(cache)
            self._logits = logits[0, -1]
        return {name: self._known[name] for name in names}


@dataclass
class Moment:
    """A model at a state of a scene.

    Attributes:
        model: Has no hooks of its own; whoever adds some removes them.
        scene: As played. place: Where. played: Both runs, whole.
        original: Up to the cursor. edited: None without edits, or where the edited run is over before.
        contrast: Numbers of the two actions whose logits are compared, LD = first - second.
        data: What the model was trained on; None if that is not here.
        stop: Whether nobody waits for the answer any more; long work asks it between batches.
        chosen: What the scene names, with the artefact's label and folder; None of a model without files.
        store: Where its analyses lie; None without one.
        dictionaries: Folders that ``dtx app --sae`` names.
    """

    model: DecisionTransformerModel
    scene: Scene
    place: Place
    played: Played
    original: Side
    edited: Side | None
    contrast: tuple[int, int]
    data: TrainingData | None
    stop: Callable[[], bool] = lambda: False
    chosen: Chosen | None = None
    store: Store | None = None
    dictionaries: tuple[Path, ...] = ()

    @staticmethod
    def of(
        model: DecisionTransformerModel,
        played: Played,
        contrast: tuple[int, int],
        data: TrainingData | None,
        stop: Callable[[], bool] = lambda: False,
        chosen: Chosen | None = None,
        store: Store | None = None,
        dictionaries: tuple[Path, ...] = (),
    ) -> Moment:
        """Of a played scene.

        Raises:
            UserError: The model knows no timestep as late as the cursor.
        """
        step, known = played.cursor, model.cfg.n_timesteps
        if model.cfg.time_embedding == "learned" and step > known:
            raise UserError(f"the model knows {known} timesteps; this is state {step}")
        original = Side("original", model, played.original.run(step))
        edited = None
        if played.edited is not None and played.edited.states >= step:
            edited = Side("edited", model, played.edited.run(step))
        return Moment(
            model,
            played.scene,
            played.place,
            played,
            original,
            edited,
            contrast,
            data,
            stop,
            chosen,
            store,
            dictionaries,
        )

    @property
    def cfg(self):
        """The model's config."""
        return self.model.cfg

    @property
    def environment(self) -> Environment:
        """Where the scene plays."""
        return self.place.environment

    @property
    def actions(self) -> tuple[str, ...]:
        """Names of the actions by number."""
        return self.place.actions

    @property
    def sides(self) -> dict[str, Side]:
        """Those that are there, by name."""
        return {s.name: s for s in (self.original, self.edited) if s is not None}

    def world(self) -> MiniGridEnv:
        """The original's world at its start; a copy."""
        return copied(world_at_start(self.place, self.scene.world))

    def want(self, names: Iterable[str]) -> None:
        """Keep these activations too when a forward pass is made."""
        for side in self.sides.values():
            side.wanted |= set(names)

    def ld(self, logits: Tensor) -> Tensor:
        """The logit difference (...) of logits (..., a)."""
        positive, negative = self.contrast
        return logits[..., positive] - logits[..., negative]

    @cached_property
    def pair(self) -> OnePair:
        """This pair, as a pairs file with these edits makes it; ``pair.batch(cfg)`` has its controls too.

        Raises:
            UserError: There is none; says why.
        """
        return pair_of(self.played, self.contrast, self.data)


def window(model: DecisionTransformerModel, run: Run) -> Context:
    """The window of a model that ends with a run's last state."""
    states = len(run.observations)
    history = History(model.cfg, 1, states)
    for t in range(states):
        history.see(run.observations[t][None], run.rewards_to_go[t : t + 1])
        if t < states - 1:
            history.act(np.array([run.actions[t]]))
    return history.context(np.array([0]))


def tokens(model: DecisionTransformerModel, states: int) -> NamedTokens:
    """The tokens of a window that ends with state number ``states``, named by the episode's steps."""
    cfg = model.cfg
    shown = min(states, cfg.n_steps)
    missing = cfg.n_steps - shown if cfg.left_padding else 0
    inside = cfg.layout.padded(shown + missing, missing).names
    before = states - shown
    names = tuple(
        name if name == PADDING else f"{name[0]}{int(name[1:]) + before}" for name in inside
    )
    return NamedTokens(names, np.array([kind_of(name) for name in names]))
