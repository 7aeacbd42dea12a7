"""Find the edits, choose on training windows, judge on held-out ones, play, and run the controls."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.analysis.core.windows import demonstrated
from dtx.analysis.steering.asks import likeness
from dtx.analysis.steering.edits import ActivationEdit, Steered, activations
from dtx.analysis.steering.methods import EMBED, random_like
from dtx.analysis.steering.play import by_layout, play
from dtx.analysis.steering.search import (
    Split,
    Tried,
    best,
    places,
    random_searches,
    sizes,
)
from dtx.analysis.steering.spec import RANDOM, UNSTEERED, Goal, SteeringMethod, SteeringSpec, Tokens
from dtx.analysis.steering.windows import DEMONSTRATIONS, GoalWindows, WindowMaker
from dtx.dataset.episodes import Episodes
from dtx.dt.context import Context
from dtx.dt.model import DecisionTransformerModel
from dtx.env.environment import Environment
from dtx.pairs.pair_set import PairSet
from dtx.progress import progress
from dtx.statistics import enumerated, mean_estimate
from dtx.training.threads import one_thread

Row = dict[str, str | float | bool]
NOTHING, PART, OWN, WHOLE, EPISODES = (
    "an edit of size 0 changes no logits",
    "edits computed from where they begin are the whole edited runs",
    "holding an activation at its own value changes no logits",
    "the whole difference between two windows' embeddings makes one the other",
    "episodes with an edit of size 0 are the unsteered ones",
)
"""Names of the exact checks."""
TABLES = ("sites", "scan", "side_effects", "controls", "asks", "episodes", "rollouts")


@dataclass(frozen=True)
class SteeringMeasures:
    """What was measured.

    Attributes:
        tables: ``sites``: one row a goal, method and site, at its best size on training windows; ``moved`` of
            the chosen one is the largest change of a log-probability where something else is wanted.
            ``scan``: success on held-out windows, one row a goal, method, size and reward-to-go of the
            windows.
            ``side_effects``: KL there, one row a goal, method and kind of window, at the
            chosen size. ``controls``: one
            row a goal, method and random search. ``asks``: the request that an edit is most like, one row a
            goal, method and reward-to-go. ``episodes``: one row each. ``rollouts``: those by layout.
        errors: Largest deviation by exact check; those that have an instance.
        distinct: Distinct windows of all goals.
        reads: Whether the model reads reward-to-go.
    """

    tables: dict[str, pd.DataFrame]
    errors: dict[str, float]
    distinct: int
    reads: bool


@torch.no_grad()
def measure(
    spec: SteeringSpec,
    model: DecisionTransformerModel,
    env: Environment,
    pairs: PairSet | None = None,
    episodes: Episodes | None = None,
) -> SteeringMeasures:
    """Steer to every goal; see :func:`dtx.analysis.steering.compute.compute`."""
    model.requires_grad_(False)
    parts: dict[str, list] = {name: [] for name in TABLES}
    errors: dict[str, list[float]] = {}
    distinct = 0
    with one_thread(), progress("steering", len(spec.goals), "goals") as bar:
        unsteered = play(model, env, spec)
        kept = None
        if episodes is not None and spec.demonstrations:
            kept, _ = demonstrated(episodes, model.cfg, spec.demonstrations, spec.seed)
        maker = WindowMaker(spec, model, env.decision, pairs, kept)
        for name, goal in spec.goals.items():
            bar.advance(0, name)
            windows = maker.windows(goal)
            distinct += windows.distinct
            each = _Goal(spec, model, env, name, goal, windows)
            for table, rows in each.tables(unsteered).items():
                parts[table] += rows
            for check, error in each.errors():
                errors.setdefault(check, []).append(error)
            bar.advance(1)
        errors[EPISODES] = [_same_episodes(spec, model, env, unsteered)]
    tables = {
        name: pd.concat(rows, ignore_index=True)
        if name in ("episodes", "rollouts")
        else pd.DataFrame(rows)
        for name, rows in parts.items()
    }
    # NumPy's maximum, not Python's, which may pass over what is no number.
    return SteeringMeasures(
        tables,
        {check: float(np.max(e)) for check, e in errors.items() if e},
        distinct,
        model.cfg.reward_to_go,
    )


def _same_episodes(
    spec: SteeringSpec, model: DecisionTransformerModel, env: Environment, unsteered: pd.DataFrame
) -> float:
    """0 if an edit of size 0 at the tokens of all states gives the same greedy episodes, else 1."""
    vector = torch.ones(model.cfg.d_model)
    nothing = ActivationEdit("", EMBED, Tokens.states, alpha=0.0, vector=vector)
    again = play(Steered(model, nothing), env, spec, sampled=False)
    greedy = unsteered[unsteered["greedy"]]
    return float(again["actions"].tolist() != greedy["actions"].tolist())


class _Goal:
    """All that is measured for one goal."""

    def __init__(
        self,
        spec: SteeringSpec,
        model: DecisionTransformerModel,
        env: Environment,
        name: str,
        goal: Goal,
        windows: GoalWindows,
    ):
        self.spec, self.model, self.env = spec, model, env
        self.name, self.goal, self.windows = name, goal, windows
        self.training, self.held_out = (Split(model, windows, held) for held in (False, True))
        self.at = np.array(self.held_out.change.column("reward_to_go"), float)
        self.chosen: dict[SteeringMethod, Tried] = {}
        self.parts: dict[str, list] = {name: [] for name in TABLES}

    def tables(self, unsteered: pd.DataFrame) -> dict[str, list]:
        """Rows of the tables; sets :attr:`chosen`."""
        found = places(self.spec, self.model, self.goal, self.windows)
        for method, edits in found.items():
            self._choose(method, edits)
        self._scan(UNSTEERED, "", [self._nothing()], 0.0)
        reached = []
        for method, tried in self.chosen.items():
            alphas = sorted({*self.spec.alphas, tried.edit.alpha})
            edits = [tried.edit.at(alpha) for alpha in alphas]
            success_eb, small = self._scan(method.value, tried.edit.name, edits, tried.edit.alpha)
            success = self._worst(success_eb[alphas.index(tried.edit.alpha)])
            if small and success >= self.spec.min_success:
                reached.append(method)
        self._played(UNSTEERED, unsteered)
        self._follow(found, reached)
        return self.parts

    def _follow(self, found: dict, reached: list[SteeringMethod]) -> None:
        """Controls, likeness and episodes of the methods that reach the goal; of the best if none does."""
        if not self.chosen:
            return
        first = max(self.chosen, key=lambda m: (self.chosen[m].score, self.chosen[m].probability))
        generator = torch.Generator().manual_seed(self.spec.seed)
        for method in reached or [first]:
            edit = self.chosen[method].edit
            strongest = self._controls(method, found[method], generator)
            self._asks(method, edit, generator)
            steered = play(Steered(self.model, edit), self.env, self.spec)
            self._played(method.value, steered)
            control = play(Steered(self.model, strongest), self.env, self.spec)
            self._played(RANDOM + method.value, control)

    def _nothing(self) -> ActivationEdit:
        vector = torch.zeros(self.model.cfg.d_model)
        return ActivationEdit("", EMBED, Tokens.last_state, alpha=0.0, vector=vector)

    def _choose(self, method: SteeringMethod, edits: list[ActivationEdit]) -> None:
        """The best size of every candidate, and the best candidate, on training windows."""
        tried = best(
            self.spec, self.training, [e for edit in edits for e in sizes(self.spec, edit)]
        )
        self.chosen[method] = tried[0]
        shown, change = set(), self.training.change
        moved = float((change.log_p([tried[0].edit]) - change.base).abs().max())
        for one in tried:
            if one.edit.name in shown:
                continue
            shown.add(one.edit.name)
            self.parts["sites"].append({
                "goal": self.name, "method": method.value, "site": one.edit.name,
                "alpha": one.edit.alpha, "success": one.success, "probability": one.probability,
                "kl": one.kl, "score": one.score, "chosen": one is tried[0],
                "moved": moved if one is tried[0] else np.nan,
            })  # fmt: skip

    def _worst(self, values: np.ndarray) -> float:
        """The mean at the reward-to-go where it is least."""
        return min(float(values[self.at == value].mean()) for value in np.unique(self.at))

    def _scan(
        self, method: str, site: str, edits: list[ActivationEdit], chosen: float
    ) -> tuple[np.ndarray, bool]:
        """Rows of what edits do in held-out windows.

        Returns:
            Success (e, b), and whether the side effects at the chosen size may be small.
        """
        small = True
        success_eb, probability_eb = self.held_out.reached(edits)
        for edit, success_b, probability_b in zip(edits, success_eb, probability_eb, strict=True):
            about: Row = {"goal": self.name, "method": method, "site": site, "alpha": edit.alpha,
                          "chosen": edit.alpha == chosen}  # fmt: skip
            for value in np.unique(self.at):
                here = self.at == value
                share = enumerated(success_b[here].mean(), int(here.sum()), of="windows")
                self.parts["scan"].append({
                    **about, "reward_to_go": value, "success": share.value,
                    "probability": float(probability_b[here].mean()), **share.columns(),
                })  # fmt: skip
            if about["chosen"]:
                (kl_b,) = self.held_out.side_effects([edit])
                rows = list(self._side_effects(kl_b))
                self.parts["side_effects"] += [about | row for row in rows]
                small = not any(float(row["low"]) > self.spec.max_side_effect for row in rows)
        return success_eb, small

    def _side_effects(self, kl: np.ndarray) -> Iterator[Row]:
        """Declared windows by reward-to-go: all that there are. Demonstrations: a sample."""
        if not len(kl):
            return
        place = np.array(self.held_out.keep.column("place"), object)
        at = np.array(self.held_out.keep.column("reward_to_go"), float)
        drawn = place == DEMONSTRATIONS
        for value in np.unique(at[~drawn]):
            here = ~drawn & (at == value)
            one = enumerated(kl[here].mean(), int(here.sum()), of="windows")
            yield {"place": "declared", "reward_to_go": value, "kl": one.value, **one.columns()}
        if drawn.any():
            one = mean_estimate(kl[drawn], of="demonstrated windows")
            yield {
                "place": DEMONSTRATIONS,
                "reward_to_go": np.nan,
                "kl": one.value,
                **one.columns(),
            }

    def _controls(
        self, method: SteeringMethod, edits: list[ActivationEdit], generator: torch.Generator
    ) -> ActivationEdit:
        """Rows of the random searches; the random vector that did best on training windows."""
        size = self.chosen[method].edit.alpha
        tried = list(random_searches(self.spec, self.model, self.training, edits, size, generator))
        for number, one in enumerate(tried):
            (success_b,), (probability_b,) = self.held_out.reached([one.edit])
            (kl_b,) = self.held_out.side_effects([one.edit])
            kl = max((float(row["kl"]) for row in self._side_effects(kl_b)), default=np.nan)
            self.parts["controls"].append({
                "goal": self.name, "method": method.value, "search": number,
                "site": one.edit.name, "alpha": one.edit.alpha,
                "success": self._worst(success_b), "probability": self._worst(probability_b),
                "kl": kl,
            })  # fmt: skip
        return max(tried, key=lambda t: (t.score, t.probability)).edit

    def _asks(
        self, method: SteeringMethod, edit: ActivationEdit, generator: torch.Generator
    ) -> None:
        """Rows of the requests that an edit is most like, beside those of random vectors in its place."""
        if not self.model.cfg.reward_to_go:
            return
        runs = [run for run in (self.held_out.change, self.held_out.made) if len(run)]
        others = [random_like(edit, self.model, generator) for _ in range(self.spec.controls)]
        at = np.unique(self.at).tolist()
        found, *rest = (
            likeness(self.model, runs, one, self.spec.compared, at) for one in (edit, *others)
        )
        for value, like, *random in zip(at, found, *rest, strict=True):
            if like is None:
                continue
            remaining = [r.remaining for r in random if r is not None]
            control = mean_estimate(remaining, of="random vectors")
            self.parts["asks"].append({
                "goal": self.name, "method": method.value, "reward_to_go": value,
                **dataclasses.asdict(like), "random_remaining": control.value, **control.columns(),
                "random_least": min(remaining, default=np.nan),
            })  # fmt: skip

    def _played(self, method: str, episodes: pd.DataFrame) -> None:
        about = {"goal": self.name, "method": method}
        kept = episodes.drop(columns="actions").assign(**about)
        self.parts["episodes"].append(kept)
        self.parts["rollouts"].append(by_layout(episodes, **about))

    def errors(self) -> Iterator[tuple[str, float]]:
        """Yield (exact check, largest deviation of log-probabilities)."""
        chosen = [one.edit for one in self.chosen.values()]
        for runs in (self.held_out.change, self.held_out.keep):
            if not len(runs) or not chosen:
                continue
            nothing = runs.log_p([edit.at(0.0) for edit in chosen])
            yield NOTHING, float((nothing - runs.base).abs().max())
            steered = runs.log_p(chosen)
            batch = runs.windows.batches[0]
            for row, edit in enumerate(chosen):
                expected = steered[row, : len(batch.table)]
                yield PART, self._deviation(edit, batch.context, None, expected)
        whole = ActivationEdit("", EMBED, Tokens.all)
        for batch in self.held_out.change.windows.batches:
            for edit in (whole, *(e for e in chosen if e.vector is None)):
                plain = dataclasses.replace(edit, alpha=1.0, direction=None)
                own = activations(self.model, batch.context, edit.hook)
                yield OWN, self._deviation(plain, batch.context, own, batch.base)
            if batch.source is not None:
                other = self.model(batch.source)[:, -1].log_softmax(-1)
                donor = activations(self.model, batch.source, EMBED)
                yield WHOLE, self._deviation(whole, batch.context, donor, other)

    def _deviation(
        self, edit: ActivationEdit, context: Context, donor: Tensor | None, expected: Tensor
    ) -> float:
        steered = Steered(self.model, edit).last_logits(context, donor)
        return float((steered.log_softmax(-1) - expected).abs().max())
