"""Find the edits, choose on training windows, judge on held-out ones, play, and run the controls.

Shape suffixes: b window, a action.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.analysis.core.windows import demonstrated
from dtx.analysis.steering.edits import ActivationEdit, Steered, activations, residual
from dtx.analysis.steering.methods import EMBED, candidates, random_like
from dtx.analysis.steering.play import by_layout, play
from dtx.analysis.steering.spec import RANDOM, UNSTEERED, Goal, SteeringMethod, SteeringSpec, Tokens
from dtx.analysis.steering.windows import CHANGE, KEEP, GoalWindows, WindowMaker, asked
from dtx.dataset.episodes import Episodes
from dtx.dt.context import Context
from dtx.dt.model import DecisionTransformerModel
from dtx.env.environment import Environment
from dtx.pairs.pair_set import PairSet
from dtx.progress import progress
from dtx.statistics import bootstrap
from dtx.training.threads import one_thread

Row = dict[str, str | float | bool]
NOTHING, OWN, WHOLE, EPISODES = (
    "an edit of size 0 changes no logits",
    "holding an activation at its own value changes no logits",
    "the whole difference between two windows' embeddings makes one the other",
    "episodes with an edit of size 0 are the unsteered ones",
)
"""Names of the exact checks."""
COST = 0.1
"""Success that a side effect of ``max_side_effect`` costs when sites and sizes are chosen."""


@dataclass(frozen=True)
class SteeringMeasures:
    """What was measured.

    Attributes:
        tables: ``sites``: one row a goal, method and site, at its best size on training windows. ``scan``:
            sizes of each method's chosen site on both kinds of windows, and unsteered. ``controls``: the
            same for random vectors. ``rollouts``: one row a goal, method, layout and target.
        errors: Largest deviation by exact check; those that have an instance.
        distinct: Distinct windows of all goals.
    """

    tables: dict[str, pd.DataFrame]
    errors: dict[str, float]
    distinct: int


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
    parts: dict[str, list] = {name: [] for name in ("sites", "scan", "controls", "rollouts")}
    errors: dict[str, list[float]] = {}
    distinct = 0
    with one_thread(), progress("steering", len(spec.goals), "goals") as bar:
        unsteered = (play(model, env, spec), play(model, env, spec, greedy=True))
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
            for check, error in each.errors(unsteered[1]):
                errors.setdefault(check, []).append(error)
            bar.advance(1)
    tables = {name: pd.DataFrame(rows) for name, rows in parts.items() if name != "rollouts"}
    tables["rollouts"] = pd.concat(parts["rollouts"], ignore_index=True)
    # NumPy's maximum, not Python's, which may pass over what is no number.
    return SteeringMeasures(
        tables, {check: float(np.max(e)) for check, e in errors.items()}, distinct
    )


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
        self.training, self.held_out = (
            GoalWindows(
                windows.part(CHANGE, held_out=held).batches
                + windows.part(KEEP, held_out=held).batches
            )
            for held in (False, True)
        )
        self._runs: dict[tuple[float | None, int], dict[str, Tensor]] = {}
        self.chosen: dict[SteeringMethod, ActivationEdit] = {}
        self.best: SteeringMethod | None = None

    def tables(self, unsteered: tuple[pd.DataFrame, pd.DataFrame]) -> dict[str, list]:
        """Rows of the tables; sets :attr:`chosen`."""
        sites = self._choose()
        scan = []
        for held_out in (False, True):
            scan.append(self._row(None, held_out, method=UNSTEERED, site="", chosen=True))
        for method, edit in self.chosen.items():
            for alpha in self.spec.alphas:
                for held_out in (False, True):
                    about = {
                        "method": method.value,
                        "site": edit.name,
                        "chosen": alpha == edit.alpha,
                    }
                    scan.append(self._row(edit.at(alpha), held_out, **about))
        controls, played = [], [by_layout(*unsteered, self.spec, goal=self.name, method=UNSTEERED)]
        generator = torch.Generator().manual_seed(self.spec.seed)
        for method, edit in self.chosen.items():
            others = [random_like(edit, self.model, generator) for _ in range(self.spec.controls)]
            for number, other in enumerate(others):
                for alpha in (a for a in self.spec.alphas if a):
                    about = {"method": method.value, "site": edit.name, "control": number}
                    controls.append(self._row(other.at(alpha), True, **about))
            played.append(self._played(method.value, edit))
            if method == self.best:
                played.append(self._played(RANDOM, others[0]))
        return {"sites": sites, "scan": scan, "controls": controls, "rollouts": played}

    def _played(self, name: str, edit: ActivationEdit) -> pd.DataFrame:
        steered = Steered(self.model, edit)
        both = (
            play(steered, self.env, self.spec),
            play(steered, self.env, self.spec, greedy=True),
        )
        return by_layout(*both, self.spec, goal=self.name, method=name)

    def _choose(self) -> list[Row]:
        """The best size of every candidate, and the best candidate of every method, on training windows."""
        sites: list[Row] = []
        best: dict[SteeringMethod, tuple[Row, ActivationEdit]] = {}
        tried = candidates(self.spec, self.model, self.goal, self.windows)
        for method, edit in tried:
            # A part of the model held at what it would be has its natural size.
            part = edit.vector is None and edit.hook != EMBED
            alphas = (1.0,) if part else [a for a in self.spec.alphas if a]
            rows = [
                (self._row(edit.at(a), False, method=method.value, site=edit.name), edit.at(a))
                for a in alphas
            ]
            row, edit = max(rows, key=lambda r: _score(self.spec, r[0]))
            row["asks"] = edit.asks
            sites.append(row)
            if method not in best or _score(self.spec, row) > _score(self.spec, best[method][0]):
                best[method] = (row, edit)
        for row, _ in best.values():
            row["chosen"] = True
        self.chosen = {method: edit for method, (_, edit) in best.items()}
        self.best = max(best, key=lambda m: _score(self.spec, best[m][0])) if best else None
        return [{"chosen": False, **row, "score": _score(self.spec, row)[0]} for row in sites]

    def _row(self, edit: ActivationEdit | None, held_out: bool, **about: str | float | bool) -> Row:
        """What an edit does, in one row."""
        success, probability, kl, flipped = self._effect(edit, held_out)
        spec = self.spec
        row: Row = {"goal": self.name, **about, "alpha": edit.alpha if edit else 0.0}
        row["windows"] = "held out" if held_out else "training"
        for name, values in (("success", success), ("probability", probability), ("kl", kl)):
            low, high = bootstrap(values, spec.resamples if held_out else 2, spec.seed)
            row |= {name: float(values.mean()) if len(values) else np.nan}
            row |= {f"{name}_low": low, f"{name}_high": high} if held_out else {}
        row["flipped"] = float(flipped.mean()) if len(flipped) else np.nan
        return row | {"changing": len(success), "kept": len(kl)}

    def _effect(self, edit: ActivationEdit | None, held_out: bool) -> tuple[np.ndarray, ...]:
        """Success and probability (changing windows,), KL and flipped (kept windows,)."""
        success, probability, kl, flipped = [], [], [], []
        for index, batch in enumerate((self.held_out if held_out else self.training).batches):
            steered = batch.base
            if edit is not None:
                caches = self._caches(edit, held_out, index)
                steered = Steered(self.model, edit).last_logits(batch.context, **caches)
                steered = steered.log_softmax(-1)
            top = steered.argmax(-1)
            if batch.table["kind"].iloc[0] == CHANGE:
                goal = batch.wanted.argmax(-1)
                success.append(top == goal)
                probability.append(steered.exp().gather(1, goal[:, None])[:, 0])
            else:
                each = (batch.base.exp() * (batch.base - steered)).sum(-1)
                kl.append(each.clamp(min=0))  # rounding may bring it below
                flipped.append(top != batch.base.argmax(-1))
        lists = (success, probability, kl, flipped)
        return tuple(torch.cat(x).double().numpy() if x else np.zeros(0) for x in lists)

    def _caches(self, edit: ActivationEdit, held_out: bool, index: int) -> dict[str, Tensor | None]:
        """What a clamp goes towards and the stream before an edit; one run for all hooks of a batch."""
        context = (self.held_out if held_out else self.training).batches[index].context

        def cached(value: float | None) -> dict[str, Tensor]:
            place = (value, 2 * index + held_out)
            if place not in self._runs:
                ends = ("hook_resid_pre",) if value is None else (EMBED, "hook_z", "hook_mlp_out")
                read = context if value is None else asked(context, value)
                _, cache = self.model.run_with_cache(read, names_filter=lambda n: n.endswith(ends))
                self._runs[place] = dict(cache)
            return self._runs[place]

        donor = None if edit.vector is not None else cached(edit.clamp)[edit.hook]
        return {"donor": donor, "start": cached(None)[residual(edit.layer)]}

    def errors(self, greedy: pd.DataFrame) -> Iterator[tuple[str, float]]:
        """Yield (exact check, deviation) of log-probabilities, or of whole episodes (0 or 1).

        Args:
            greedy: Unsteered episodes.
        """
        whole = ActivationEdit("", EMBED, Tokens.all)
        for batch in self.held_out.batches:
            for edit in self.chosen.values():
                yield NOTHING, self._deviation(edit.at(0.0), batch.context, None, batch.base)
            for edit in (whole, *self.chosen.values()):
                if edit.vector is None:
                    plain = dataclasses.replace(edit, alpha=1.0, direction=None)
                    own = activations(self.model, batch.context, edit.hook)
                    yield OWN, self._deviation(plain, batch.context, own, batch.base)
            if batch.source is not None:
                other = self.model(batch.source)[:, -1].log_softmax(-1)
                donor = activations(self.model, batch.source, EMBED)
                yield WHOLE, self._deviation(whole, batch.context, donor, other)
        if self.chosen:
            edit = next(iter(self.chosen.values())).at(0.0)
            again = play(Steered(self.model, edit), self.env, self.spec, greedy=True)
            yield EPISODES, float(again["actions"].tolist() != greedy["actions"].tolist())

    def _deviation(
        self, edit: ActivationEdit, context: Context, donor: Tensor | None, expected: Tensor
    ) -> float:
        steered = Steered(self.model, edit).last_logits(context, donor)
        return float((steered.log_softmax(-1) - expected).abs().max())


def _score(spec: SteeringSpec, row: Row) -> tuple[float, float]:
    """What sites and sizes are chosen by: success less the side effect's cost, then probability."""
    success, kl, probability = (float(row[name]) for name in ("success", "kl", "probability"))
    cost = 0.0 if np.isnan(kl) else COST * kl / spec.max_side_effect
    return success - cost, probability
