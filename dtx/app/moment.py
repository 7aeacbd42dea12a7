"""What a panel computes from: a model and both runs of a scene, up to the state that is looked at.

Letters: n tokens of a window, a actions, t states.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.analysis.activation_patching.sweep import NodeSweep
from dtx.analysis.attribution.compute import Attributed, attribute
from dtx.analysis.core.patching_spec import Direction, Node
from dtx.analysis.core.windows import join
from dtx.analysis.lens.streams import point_names
from dtx.analysis.steering.edits import ActivationEdit, mask, residual
from dtx.analysis.steering.runs import Runs
from dtx.analysis.steering.spec import Tokens
from dtx.analysis.steering.windows import GoalBatch, GoalWindows
from dtx.app.models import Chosen
from dtx.app.pairing import pair_of
from dtx.app.places import Place, world_at_start
from dtx.app.play import Played
from dtx.app.scene import Scene
from dtx.app.subject import Reading, Subject
from dtx.app.training_data import TrainingData
from dtx.dt.context import Context
from dtx.dt.history import History
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.processing import Folded
from dtx.dt.tokens import KINDS, PADDING, NamedTokens, kind_of
from dtx.env.environment import Environment
from dtx.errors import UserError
from dtx.pairs.runs import Run, copied
from dtx.pairs.single import OnePair

if TYPE_CHECKING:
    from pathlib import Path

    from minigrid.minigrid_env import MiniGridEnv

    from dtx.store.store import Store

_FOLDED: WeakKeyDictionary[DecisionTransformerModel, Folded] = WeakKeyDictionary()
"""Folded weights of the models that are loaded, which the page never changes."""


class Side(Reading):
    """One run as a model reads it, up to the cursor.

    Attributes:
        name: ``original`` or ``edited``.
        run: Up to the cursor.
        context: One window, which ends there.
        tokens: Of the window; steps count from the episode's start.
    """

    def __init__(self, name: str, model: DecisionTransformerModel, run: Run):
        super().__init__(name, tokens(model, len(run.observations)))
        self.run, self._model = run, model
        self.context = window(model, run)

    def where(self, tokens: Tokens) -> Tensor:
        """Which tokens of the window are meant, (1, n) bool."""
        if not self._model.cfg.reward_to_go and "reward_to_go" in tokens.value:
            raise UserError(f"tokens: the model has no {tokens.value} tokens")
        return mask(self.context, tokens)

    def _run_alone(self) -> Tensor:
        with torch.no_grad():
            return self._model.last_logits(self.context)[0]

    def _run(self, names: set[str]) -> tuple[Tensor, Mapping[str, Tensor]]:
        with torch.no_grad():
            logits, cache = self._model.run_with_cache(self.context, names_filter=names)
        return logits[0, -1], cache


@dataclass
class Moment(Subject):
    """A model that acts in a world, at a state of a scene.

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
    kinds: ClassVar[tuple[str, ...]] = (*KINDS, PADDING)
    has_world: ClassVar[bool] = True

    @staticmethod
    def of(
        model: DecisionTransformerModel,
        played: Played,
        contrast: tuple[int, int],
        data: TrainingData | None,
        stop: Callable[[], bool] = lambda: False,
        *,
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
            model, played.scene, played.place, played, original, edited, contrast, data, stop,
            chosen, store, dictionaries,
        )  # fmt: skip

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

    def world(self) -> MiniGridEnv:
        """The original's world at its start; a copy."""
        return copied(world_at_start(self.place, self.scene.world))

    @property
    def gap(self) -> float:
        """What the environment's pairs declare."""
        return self.place.declared.gap

    @property
    def has_decision(self) -> bool:
        """Whether the environment names its decision."""
        return self.environment.decision is not None

    @property
    def points(self) -> dict[str, str]:
        """Points of the residual stream in order: name and hook."""
        layers, parts = range(self.cfg.n_layers), ("mid", "post")
        inner = [f"blocks.{layer}.hook_resid_{part}" for layer in layers for part in parts]
        return dict(zip(point_names(self.cfg.n_layers), [residual(0), *inner], strict=True))

    def read(self, resid: Tensor) -> Tensor:
        """Logits (..., a) of a stream (..., d), read out as at its end."""
        return self.model.read(resid)

    def sweep(self, node: Node, direction: Direction, at_once: int) -> NodeSweep:
        """Of this pair and its controls."""
        batch = self.pair.batch(self.cfg)
        return NodeSweep(self.model, batch, self.gap, direction, (node,), at_once, self.stop)

    def attributed(self, random_directions: int, seed: int) -> Attributed:
        """Of both windows, by the model's folded weights."""
        copies = folded(self.model)
        return attribute(copies, self._both, self.contrast, random_directions, seed)

    @torch.no_grad()
    def log_p(self, edits: Sequence[ActivationEdit]) -> Tensor:
        """Of both windows together."""
        sides = self.sides.values()
        base = torch.stack([side.logits for side in sides]).log_softmax(-1)
        rows = pd.DataFrame(index=range(len(base)))
        batch = GoalBatch(self._both, None, rows, base, base.exp())
        return Runs(self.model, GoalWindows([batch])).log_p(edits)

    @property
    def _both(self) -> Context:
        return join([side.context for side in self.sides.values()])

    @cached_property
    def pair(self) -> OnePair:
        """This pair, as a pairs file with these edits makes it; ``pair.batch(cfg)`` has its controls too.

        Raises:
            UserError: There is none; says why.
        """
        return pair_of(self.played, self.contrast, self.data)


def folded(model: DecisionTransformerModel) -> Folded:
    """A model's folded weights, made once a model."""
    if model not in _FOLDED:
        _FOLDED[model] = Folded.of(model)
    return _FOLDED[model]


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
