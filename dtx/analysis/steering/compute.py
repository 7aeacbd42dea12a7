"""Find the edits, choose on training windows, judge on held-out ones, play, and run the controls.

Shape suffixes: b window, a action.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.analysis.steering import Goal, Method, Steering, Tokens
from dtx.analysis.steering.edits import Edit, Steered, activations, residual
from dtx.analysis.steering.methods import EMBED, candidates, random_like
from dtx.analysis.steering.play import by_layout, play
from dtx.analysis.steering.windows import CHANGE, KEEP, WindowMaker, Windows, asked
from dtx.dt.model import DecisionTransformerModel
from dtx.progress import progress
from dtx.statistics import bootstrap
from dtx.training.threads import one_thread

UNSTEERED, RANDOM = "unsteered", "random"
"""In tables: no edit; a random vector in the place of the method that did best on training windows."""
COST = 0.1
"""Success that a side effect of ``max_side_effect`` costs when sites and sizes are chosen."""


@dataclass
class Found:
    """What came out.

    Attributes:
        tables: ``sites``: one row a goal, method and site, at its best size on training windows. ``scan``:
            sizes of each method's chosen site on both kinds of windows, and unsteered. ``controls``: the
            same for random vectors. ``rollouts``: one row a goal, method, layout and target.
        identity_error: Largest deviation in the exact checks.
        distinct: Distinct windows of all goals.
    """

    tables: dict[str, pd.DataFrame]
    identity_error: float
    distinct: int


@torch.no_grad()
def measure(stage: Steering, model: DecisionTransformerModel) -> Found:
    """Steer to every goal."""
    model.requires_grad_(False)
    parts: dict[str, list] = {name: [] for name in ("sites", "scan", "controls", "rollouts")}
    error, distinct = 0.0, 0
    with one_thread(), progress("steering", len(stage.goals), "goals") as bar:
        unsteered = (play(model, stage), play(model, stage, greedy=True))
        maker = WindowMaker(stage, model)
        for name, goal in stage.goals.items():
            bar.advance(0, name)
            windows = maker.windows(goal)
            distinct += windows.distinct
            each = _Goal(stage, model, name, goal, windows)
            for table, rows in each.tables(unsteered).items():
                parts[table] += rows
            error = max(error, each.identity_error(unsteered[1]))
            bar.advance(1)
    tables = {name: pd.DataFrame(rows) for name, rows in parts.items() if name != "rollouts"}
    tables["rollouts"] = pd.concat(parts["rollouts"], ignore_index=True)
    return Found(tables, error, distinct)


class _Goal:
    """All that is measured for one goal."""

    def __init__(
        self,
        stage: Steering,
        model: DecisionTransformerModel,
        name: str,
        goal: Goal,
        windows: Windows,
    ):
        self.stage, self.model, self.name, self.goal = stage, model, name, goal
        self.windows = windows
        self.training, self.held_out = (
            Windows(
                windows.part(CHANGE, held_out=held).batches
                + windows.part(KEEP, held_out=held).batches
            )
            for held in (False, True)
        )
        self._runs: dict[tuple[float | None, int], dict[str, Tensor]] = {}
        self.chosen: dict[Method, Edit] = {}
        self.best: Method | None = None

    def tables(self, unsteered: tuple[pd.DataFrame, pd.DataFrame]) -> dict[str, list]:
        """Rows of the tables; sets :attr:`chosen`."""
        sites = self._choose()
        scan = []
        for held_out in (False, True):
            scan.append(self._row(None, held_out, method=UNSTEERED, site="", chosen=True))
        for method, edit in self.chosen.items():
            for alpha in self.stage.alphas:
                for held_out in (False, True):
                    about = {
                        "method": method.value,
                        "site": edit.name,
                        "chosen": alpha == edit.alpha,
                    }
                    scan.append(self._row(edit.at(alpha), held_out, **about))
        controls, played = [], [by_layout(*unsteered, self.stage, goal=self.name, method=UNSTEERED)]
        generator = torch.Generator().manual_seed(self.stage.seed)
        for method, edit in self.chosen.items():
            others = [random_like(edit, self.model, generator) for _ in range(self.stage.controls)]
            for number, other in enumerate(others):
                for alpha in (a for a in self.stage.alphas if a):
                    about = {"method": method.value, "site": edit.name, "control": number}
                    controls.append(self._row(other.at(alpha), True, **about))
            played.append(self._played(method.value, edit))
            if method == self.best:
                played.append(self._played(RANDOM, others[0]))
        return {"sites": sites, "scan": scan, "controls": controls, "rollouts": played}

    def _played(self, name: str, edit: Edit) -> pd.DataFrame:
        steered = Steered(self.model, edit)
        both = (play(steered, self.stage), play(steered, self.stage, greedy=True))
        return by_layout(*both, self.stage, goal=self.name, method=name)

    def _choose(self) -> list[dict[str, Any]]:
        """The best size of every candidate, and the best candidate of every method, on training windows."""
        sites, best = [], {}
        found = candidates(self.stage, self.model, self.goal, self.windows)
        for method, edit in found:
            # A part of the model held at what it would be has its natural size.
            part = edit.vector is None and edit.hook != EMBED
            alphas = (1.0,) if part else [a for a in self.stage.alphas if a]
            rows = [
                (self._row(edit.at(a), False, method=method.value, site=edit.name), edit.at(a))
                for a in alphas
            ]
            row, edit = max(rows, key=lambda r: _score(self.stage, r[0]))
            row["asks"] = edit.asks
            sites.append(row)
            if method not in best or _score(self.stage, row) > _score(self.stage, best[method][0]):
                best[method] = (row, edit)
        for row, _ in best.values():
            row["chosen"] = True
        self.chosen = {method: edit for method, (_, edit) in best.items()}
        self.best = max(best, key=lambda m: _score(self.stage, best[m][0])) if best else None
        return [{"chosen": False, **row, "score": _score(self.stage, row)[0]} for row in sites]

    def _row(self, edit: Edit | None, held_out: bool, **about: object) -> dict[str, Any]:
        """What an edit does, in one row."""
        success, probability, kl, flipped = self._effect(edit, held_out)
        stage = self.stage
        row = {"goal": self.name, **about, "alpha": edit.alpha if edit else 0.0}
        row["windows"] = "held out" if held_out else "training"
        for name, values in (("success", success), ("probability", probability), ("kl", kl)):
            low, high = bootstrap(values, stage.resamples if held_out else 2, stage.seed)
            row |= {name: values.mean() if len(values) else np.nan}
            row |= {f"{name}_low": low, f"{name}_high": high} if held_out else {}
        row["flipped"] = flipped.mean() if len(flipped) else np.nan
        return row | {"changing": len(success), "kept": len(kl)}

    def _effect(self, edit: Edit | None, held_out: bool) -> tuple[np.ndarray, ...]:
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

    def _caches(self, edit: Edit, held_out: bool, index: int) -> dict[str, Tensor | None]:
        """What a clamp goes towards and the stream before an edit; one run for all hooks of a batch."""
        context = (self.held_out if held_out else self.training).batches[index].context

        def cached(value: float | None) -> dict[str, Tensor]:
            place = (value, 2 * index + held_out)
            if place not in self._runs:
                ends = ("hook_resid_pre",) if value is None else (EMBED, "hook_z", "hook_mlp_out")
                mine = context if value is None else asked(context, value)
                _, cache = self.model.run_with_cache(mine, names_filter=lambda n: n.endswith(ends))
                self._runs[place] = dict(cache)
            return self._runs[place]

        donor = None if edit.vector is not None else cached(edit.clamp)[edit.hook]
        return {"donor": donor, "start": cached(None)[residual(edit.layer)]}

    def identity_error(self, greedy: pd.DataFrame) -> float:
        """Size 0 changes nothing, in windows and in episodes; a clamp to a window's own value neither; the
        whole difference between two windows' embeddings makes one the other."""
        error = 0.0
        for batch in self.held_out.batches:
            whole = Edit("", EMBED, Tokens.all)
            checks = [(e.at(0.0), None, batch.base) for e in self.chosen.values()]
            for edit in (whole, *self.chosen.values()):
                if edit.vector is None:
                    plain = dataclasses.replace(edit, alpha=1.0, direction=None)
                    own = activations(self.model, batch.context, edit.hook)
                    checks.append((plain, own, batch.base))
            if batch.source is not None:
                other = self.model(batch.source)[:, -1].log_softmax(-1)
                checks.append((whole, activations(self.model, batch.source, EMBED), other))
            for edit, donor, expected in checks:
                found = Steered(self.model, edit).last_logits(batch.context, donor)
                difference = (found.log_softmax(-1) - expected).abs()
                error = max(error, float(difference.max()))
        if self.chosen:
            edit = next(iter(self.chosen.values())).at(0.0)
            again = play(Steered(self.model, edit), self.stage, greedy=True)
            same = again["actions"].tolist() == greedy["actions"].tolist()
            error = max(error, 0.0 if same else 1.0)
        return error


def _score(stage: Steering, row: dict[str, Any]) -> tuple[float, float]:
    """What sites and sizes are chosen by: success less the side effect's cost, then probability."""
    kl = 0.0 if np.isnan(row["kl"]) else row["kl"]
    return (row["success"] - COST * kl / stage.max_side_effect, row["probability"])
