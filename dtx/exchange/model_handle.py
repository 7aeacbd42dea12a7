"""The handle on a Decision Transformer that ``dtx.load("dt", ...)`` returns."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from dtx.dataset.dataset import Dataset
from dtx.dt import forward
from dtx.dt.context import Context
from dtx.dt.hooks import Names
from dtx.dt.load import check_fits
from dtx.dt.model import DecisionTransformerModel, load
from dtx.errors import UserError
from dtx.exchange.handles import Loaded
from dtx.exchange.lookup import label_or_hint
from dtx.exchange.origin import Origin
from dtx.pairs.pair_set import PairSet
from dtx.store.label import Label
from dtx.store.store import current, used

if TYPE_CHECKING:
    import pandas as pd

    from dtx.dataset.episodes import Episodes
    from dtx.dt.activation_cache import ActivationCache
    from dtx.env.environment import Environment
    from dtx.pairs.declared import Declared


class LoadedModel(Loaded):
    """A Decision Transformer with its demonstrations, environment and pairs.

    Attributes:
        model: The PyTorch module, with TransformerLens's names of hooks and weights.
    """

    def __init__(self, origin: Origin, model: DecisionTransformerModel | None = None):
        super().__init__(origin)
        self.model = load(origin.folder) if model is None else model
        self._made: dict[str, PairSet] = {}  # by key; their folders are removed with this object

    def folded(self) -> LoadedModel:
        """The same with LayerNorms folded and weights centred: equal logits, readable weights."""
        from dtx.dt.processing import processed

        return LoadedModel(self.origin, processed(self.model))

    def checkpoints(self) -> dict[int, Path]:
        """Checkpoints kept during training, by step."""
        files = (self.folder / "checkpoints").glob("step-*.safetensors")
        return {int(path.stem.removeprefix("step-")): path for path in sorted(files)}

    def at(self, step: int) -> LoadedModel:
        """The model at a kept training step.

        Raises:
            UserError: No such checkpoint was kept.
        """
        kept = self.checkpoints()
        if step not in kept:
            known = ", ".join(map(str, kept)) or "none"
            raise UserError(f"{self.label} kept no checkpoint of step {step} (kept: {known})")
        return LoadedModel(self.origin, load(self.folder, kept[step]))

    def run_with_cache(
        self,
        context: Context | int,
        names: Names = None,
    ) -> tuple[Tensor, ActivationCache]:
        """Logits (b, t, a) at the state tokens, and activations by name: ``cache["pattern", 0]``.

        Args:
            context: Windows, as :meth:`windows`, :meth:`decisions` and the pairs' batches give them; or a
                number of windows of the demonstrations.
            names: Which activations to keep: None for all, a name, several, or a function of a name.

        Raises:
            UserError: A name is no activation that is computed, or none is chosen.
        """
        if isinstance(context, int):
            context = self.windows(context)
        return forward.run_with_cache(self.model, context, names)

    def rollout(
        self,
        reward_to_go: float | Sequence[float] = 0.9,
        episodes: int = 50,
        *,
        greedy: bool = False,
        seed: int = 0,
        temperature: float = 1.0,
        env: Environment | str | None = None,
    ) -> pd.DataFrame:
        """Play episodes.

        Args:
            reward_to_go: Target return or returns; all are played in the same worlds with the same random
                numbers.
            episodes: At each target.
            greedy: Take the most probable action instead of a sampled one.
            seed: Of the worlds and of sampled actions.
            temperature: Divides the logits when sampling.
            env: An environment, or the name of a config; None: the recorded one.

        Returns:
            One row an episode: ``reward_to_go``, ``episode``, ``return``, ``length``, ``outcome``.

        Raises:
            UserError: Nothing would be played, or an argument would change nothing.
        """
        import pandas as pd

        from dtx.dataset.episodes import Outcome
        from dtx.dt.rollout import rollouts

        if episodes < 1:
            raise UserError(f"rollout: episodes={episodes} must be at least 1")
        if not greedy and temperature <= 0:
            raise UserError(f"rollout: temperature={temperature:g} must be above 0")
        if greedy and temperature != 1:
            raise UserError(
                f"rollout: temperature={temperature:g} changes no greedy action; leave it out"
            )
        targets = [float(value) for value in np.atleast_1d(np.asarray(reward_to_go))]
        if not targets:
            raise UserError("rollout: reward_to_go is empty; give at least one target")
        if len(targets) > 1 and not self.model.cfg.reward_to_go:
            warnings.warn(
                f"{self.label} reads no reward-to-go: it plays the same at every target",
                stacklevel=2,
            )
        place = self._environment(env)
        check_fits(self.model, place, self.label)
        names = [outcome.name.lower() for outcome in Outcome]
        played = rollouts(
            self.model,
            place,
            targets,
            episodes=episodes,
            seed=seed,
            temperature=temperature,
            greedy=greedy,
        )
        frames = [
            pd.DataFrame(
                {
                    "reward_to_go": target,
                    "episode": np.arange(episodes),
                    "return": part.returns,
                    "length": part.length,
                    "outcome": [names[code] for code in part.outcome],
                }
            )
            for target, part in zip(targets, played, strict=True)
        ]
        return pd.concat(frames, ignore_index=True)

    @cached_property
    def episodes(self) -> Episodes:
        """The demonstrations that it was trained on.

        Raises:
            UserError: It was not trained on any, or they are not in the store.
        """
        from dtx.dataset.episodes import Episodes

        label = self.origin.record.get("inputs", {}).get("dataset")
        if label is None or self.origin.store is None or label not in self.origin.records:
            what = "is not in the store" if label else "none is known"
            raise UserError(
                f"{self.label}: of its demonstrations {label or ''} {what}; .decisions() and .pairs() "
                "need none"
            )
        return Episodes.read(self.origin.store.artefact(Label(label)))

    def windows(self, count: int = 64, *, seed: int = 0, steps: int | None = None) -> Context:
        """Windows of random training episodes of the demonstrations, from their beginning.

        Args:
            count: At most so many, of different episodes.
            seed: Of the choice.
            steps: Timesteps of each; None: as many as the model reads, or as the longest episode has.

        Raises:
            UserError: No window is asked for, or windows are longer than the model reads.
        """
        from dtx.analysis.core.windows import beginnings

        if count < 1:
            raise UserError(f"windows: count={count} must be at least 1")
        episodes, cfg = self.episodes, self.model.cfg
        training = np.asarray(episodes.length)[np.asarray(episodes.split) == 0]
        longest = min(cfg.n_steps, int(training.max(initial=0)))
        if steps is not None and not 1 <= steps <= cfg.n_steps:
            raise UserError(f"windows: steps={steps} must lie between 1 and {cfg.n_steps}")
        return beginnings(episodes, cfg, steps or longest, count, seed)[0]

    def decisions(
        self, reward_to_go: float = 0.9, *, env: Environment | str | None = None
    ) -> Context:
        """What the model sees at the decision: one window for each layout of the environment.

        Raises:
            UserError: The environment has no decision.
        """
        from dtx.dt.rollout import decision_contexts

        place = self._environment(env)
        if place.decision is None:
            raise UserError(f"{type(place).__name__} names no decision; use .windows() or .pairs()")
        check_fits(self.model, place, self.label, plays=False)
        return decision_contexts(self.model, place.decision, [reward_to_go])[0]

    def pairs(
        self, which: str | None = None, *overrides: str, env: Environment | str | None = None
    ) -> PairSet:
        """Declared counterfactual pairs: from the store, or made now and kept for the session.

        Args:
            which: A config of ``pairs`` or a label in the store; None: the config named as the environment.
            overrides: ``pairs.source.variants=4``.
            env: As in :meth:`rollout`.

        Raises:
            UserError: There is no such config or artefact, or an override would not reach the pairs.
        """
        from dtx.config.options import options
        from dtx.text import suggest

        store, config_dir = self.origin.store, self.origin.config_dir
        names = [option.name for option in options(config_dir)["pairs"]]
        if which is not None and which not in names:
            if store is None or overrides:
                raise UserError(f"pairs: no config {which!r}{suggest(which, names)}")
            if env is not None:
                raise UserError(f"pairs: {which} has an environment of its own; leave out env")
            return PairSet.read(store.artefact(Label(label_or_hint(store, which, "pairs"))))
        for override in overrides:
            if override.lstrip("+~").partition("=")[0].partition(".")[0] not in ("pairs", "seed"):
                raise UserError(
                    f"pairs: {override} does not reach the pairs: their fields are pairs.FIELD, and their "
                    "environment is given by env="
                )
        place = self._environment(env)
        name = which or type(place).__module__.rsplit(".", 1)[-1]
        if name not in names:
            raise UserError(
                f"pairs: none are declared for {place.id}; name one: {', '.join(names)}"
            )
        stage = self._declared(name, overrides, place)
        if store is not None and store.has(stage):
            return PairSet.read(store.artefact(stage))
        if stage.key not in self._made:
            folder = Path(tempfile.mkdtemp(prefix="dtx-pairs-"))
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            with used(store or current()):
                stage.run(folder)
            self._made[stage.key] = PairSet.read(folder)
        return self._made[stage.key]

    def _declared(self, name: str, overrides: Sequence[str], env: Environment) -> Declared:
        """The pairs' stage with this model's environment, and its demonstrations if they are in the store."""
        from dtx.config.build import Builder
        from dtx.config.compose import compose

        stage, store = self.origin.stage, self.origin.store
        dataset = None if stage is None else stage.inputs().get("dataset")
        alone = [] if dataset is not None else ["pairs.dataset=null"]
        builder = Builder(compose([f"pairs={name}", *alone, *overrides], self.origin.config_dir))
        declared: Declared = builder.at("pairs", object)
        builder.finish()
        kept = isinstance(dataset, Dataset) and store is not None and store.has(dataset)
        return dataclasses.replace(declared, env=env, dataset=dataset if kept else None)
