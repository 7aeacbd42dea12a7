"""Choose the facts of ``dt=planted_facts`` and write the weights that compute them.

Letters: N steps of all episodes, v distinct views, f facts, r dimensions for what is read, d model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from dtx.dataset.episodes import Episodes
from dtx.dataset.facts import Facts
from dtx.dt import model as models
from dtx.dt.fact_kinds import (
    ACTED,
    TO_GO,
    Rows,
    joined,
    of_actions,
    of_pose,
    of_reward_to_go,
    of_world,
)
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.planted_truth import APART, NEGATIVE, NESTED, REDUNDANT, SILENT, PlantedTruth
from dtx.dt.tokens import KINDS, REWARD_TO_GO, STATE
from dtx.env.encoding import flatten, one_hot
from dtx.errors import UserError
from dtx.report import Report

if TYPE_CHECKING:
    from dtx.dt.planted_facts.spec import PlantedFactsSpec

SHARP = 120.0
"""Scores of what is looked at are this much above the others, whose weights so are 0 in float32."""


@dataclass(frozen=True)
class Candidate:
    """A fact that a state token and those before it in its step's window tell.

    Attributes:
        name: Of it. true: (N,) bool. views: (v,) bool, where it is one of the view.
        least: Of reward-to-go, where it is one of that. action: Number of the last one, where it is that.
    """

    name: str
    true: np.ndarray
    views: np.ndarray | None = None
    least: float | None = None
    action: int | None = None


def plant(spec: PlantedFactsSpec, out: Path) -> None:
    """Write the artefact.

    Raises:
        UserError: There are too few such facts, or too many views.
    """
    facts = spec.dataset.load_facts()
    episodes = facts.episodes
    views = len(episodes.observations)
    if views > spec.views:
        raise UserError(
            f"dt.views: the demonstrations have {views:,} distinct views, more than {spec.views:,}; "
            f"raise it (dt.views={views}), or record fewer episodes"
        )
    rng = np.random.Generator(np.random.Philox(key=np.array([spec.seed, 0], np.uint64)))
    chosen, kind = choose(spec, candidates(spec, facts), rng)
    model = DecisionTransformerModel(spec.model_config())
    d = model.cfg.d_model
    inner = rng.normal(size=(len(chosen), spec.dimensions))
    inner /= np.linalg.norm(inner, axis=1, keepdims=True)
    turned = np.linalg.qr(rng.normal(size=(d, spec.dimensions)))[0]
    truth = PlantedTruth(
        names=[one.name for one in chosen],
        kind=kind,
        size=np.array([{NEGATIVE: -1.0, SILENT: 0.0}.get(k, 1.0) for k in kind]),
        share=np.array([one.true.mean() for one in chosen]),
        directions=inner @ turned.T,
    )
    _Writer(spec, model, episodes).write(chosen, truth)
    models.save(model, out)
    truth.save(out)
    report = Report(out)
    columns = {"fact": truth.names, "kind": kind, "size": truth.size, "share": truth.share}
    report.table("facts", pd.DataFrame(columns))
    report.headline(
        {
            "planted_facts/facts": len(chosen),
            "planted_facts/a_token": float((truth.share * (truth.size != 0)).sum()),
            "planted_facts/views": views,
        }
    )


def candidates(spec: PlantedFactsSpec, facts: Facts) -> list[Candidate]:
    """Facts at state tokens that follow from the view, the reward-to-go or the last action."""
    episodes, env = facts.episodes, spec.dataset.environment
    assert env is not None  # there would be no facts
    at = np.arange(len(episodes.action))
    begin = np.repeat(np.asarray(episodes.start), np.asarray(episodes.length))
    view = np.asarray(episodes.observation)
    rows = Rows(
        at=at,
        begin=begin,
        until=at,
        step=at - begin,
        kind=np.full(len(at), KINDS.index(STATE), np.int8),
        view=view,
        weight=np.ones(len(at)),
        reads_reward_to_go=True,
    )
    to_go = episodes.reward_to_go
    quantities = [
        *of_world(facts, rows),
        *of_reward_to_go(to_go, rows),
        of_actions(episodes, rows),
        *joined(facts, env, to_go, rows),
        *of_pose(facts, rows),
    ]
    seen = np.bincount(view, minlength=len(episodes.observations))
    found: list[Candidate] = []
    for one in quantities:
        code = one.code()
        for value, name in enumerate(one.names):
            true = code == value
            if name is None or not spec.least <= true.mean() <= spec.most:
                continue
            if one.group == TO_GO:
                found.append(Candidate(name, true, least=float(name.split()[-1])))
            elif one.group == ACTED:
                found.append(Candidate(name, true, action=value - 1))
            else:
                on = np.bincount(view, weights=true, minlength=len(seen))
                if ((on == 0) | (on == seen)).all():
                    found.append(Candidate(name, true, views=on > 0))
    return found


def choose(
    spec: PlantedFactsSpec, found: list[Candidate], rng: np.random.Generator
) -> tuple[list[Candidate], list[str]]:
    """Facts of which none implies another and no two correlate by more than ``apart``; then the awkward ones.

    Raises:
        UserError: There are too few.
    """
    true = np.stack([one.true for one in found]).astype(np.float32) if found else np.zeros((0, 1))
    share = true.mean(1)
    both = true @ true.T / true.shape[1]
    deviation = np.sqrt(share * (1 - share))
    alike = np.abs(both - np.outer(share, share)) / np.outer(deviation, deviation)
    count = np.rint(both * true.shape[1])
    nested = count >= np.minimum.outer(
        np.diag(count), np.diag(count)
    )  # one is true only with the other
    order, wanted = rng.permutation(len(found)), spec.number + 2 * spec.awkward
    taken: list[int] = []
    for i in order:
        if len(taken) < wanted and all(
            alike[i, j] <= spec.apart and not nested[i, j] for j in taken
        ):
            taken.append(int(i))
    if len(taken) < wanted:
        raise UserError(
            f"dt.number: of {len(found)} facts that a state token tells {len(taken)} stand apart, fewer than "
            f"{wanted}; lower dt.number or dt.least, or raise dt.apart or dt.most"
        )
    chosen, kind = [found[i] for i in taken], [APART] * spec.number
    if not spec.awkward:
        return chosen, kind
    inside = [
        i for i in order if any(nested[i, j] and share[i] != share[j] for j in taken[: spec.number])
    ]
    if not inside:
        raise UserError(
            "dt.awkward: no fact is nested in one that is planted; give another dt.seed"
        )
    chosen += [chosen[0], found[inside[0]]]
    return chosen, [*kind, NEGATIVE, SILENT, REDUNDANT, NESTED]


class _Writer:
    """Writes the weights. Dimensions: views, own action, last action, own and the step's reward-to-go,
    place in the window, whether it is a reward-to-go token."""

    def __init__(self, spec: PlantedFactsSpec, model: DecisionTransformerModel, episodes: Episodes):
        self.spec, self.model, self.episodes = spec, model, episodes
        self.actions = model.cfg.n_actions
        self.own = spec.views
        self.last = self.own + self.actions
        self.to_go = self.last + self.actions
        self.here, self.place, self.asks = self.to_go + 1, self.to_go + 2, self.to_go + 3

    @torch.no_grad()
    def write(self, chosen: list[Candidate], truth: PlantedTruth) -> None:
        """All of them."""
        for parameter in self.model.parameters():
            parameter.zero_()
        code_vr, same = self._embed()
        self._attend()
        self._answer(chosen, truth, code_vr, same)
        self.model.eval()

    def _embed(self) -> tuple[np.ndarray, int]:
        """(v, views) the code of each view, and how many channels that differ each one has."""
        embed, cfg = self.model.embed, self.model.cfg
        table = flatten(one_hot(np.asarray(self.episodes.observations))).astype(np.float64)
        differ = np.flatnonzero(table.any(0) & ~table.all(0))
        part = table[:, differ]
        basis = np.linalg.svd(part, full_matrices=False)[2]  # products of views stay as they are
        embed.W_S[differ, : len(basis)] = _tensor(basis.T)
        for action in range(self.actions):
            embed.W_A[action, self.own + action] = 1.0
        assert embed.W_R is not None
        embed.W_R[0, self.to_go] = 1.0
        places = np.arange(cfg.n_ctx)
        rows = self.model.pos_embed.W_pos
        rows[:, self.place] = _tensor(places)
        rows[:, self.asks] = _tensor(cfg.layout.is_kind(cfg.n_ctx, REWARD_TO_GO))
        code = np.zeros((len(part), self.spec.views))
        code[:, : len(basis)] = part @ basis.T
        return code, round(float(part[0].sum()))

    def _attend(self) -> None:
        """Head 0 copies what the last reward-to-go token says, head 1 what the last action token says."""
        attn, cfg = self.model.blocks[0].attn, self.model.cfg
        later, root = SHARP * (cfg.n_ctx + 1), cfg.d_head**0.5
        attn.b_Q[:, 0] = root
        attn.W_K[:, self.place, 0] = SHARP
        attn.W_K[0, self.asks, 0] = later
        attn.W_V[0, self.to_go, 0] = 1.0
        attn.W_O[0, 0, self.here] = 1.0
        for action in range(self.actions):
            attn.W_K[1, self.own + action, 0] = later
            attn.W_V[1, self.own + action, action] = 1.0
            attn.W_O[1, action, self.last + action] = 1.0

    def _answer(
        self, chosen: list[Candidate], truth: PlantedTruth, code_vr: np.ndarray, same: int
    ) -> None:
        """The MLP: what is true is written, what was read is taken away."""
        mlp = self.model.blocks[0].mlp
        written = truth.directions * truth.size[:, None]
        neuron = 0
        for view, code in enumerate(code_vr):
            mlp.W_in[: len(code), neuron], mlp.b_in[neuron] = _tensor(code), 1.0 - same
            says = [i for i, one in enumerate(chosen) if one.views is not None and one.views[view]]
            mlp.W_out[neuron] = _tensor(written[says].sum(0))
            neuron += 1
        values = np.unique(self.episodes.reward_to_go).astype(np.float64)
        for i, one in enumerate(chosen):
            if one.least is not None:
                low, high = values[values < one.least].max(), values[values >= one.least].min()
                for edge, sign in ((low, 1.0), (high, -1.0)):
                    mlp.W_in[self.here, neuron] = 1 / (high - low)
                    mlp.b_in[neuron] = -edge / (high - low)
                    mlp.W_out[neuron] = _tensor(sign * written[i])
                    neuron += 1
        for action in range(self.actions):
            says = [i for i, one in enumerate(chosen) if one.action == action]
            mlp.W_in[self.last + action, neuron] = 1.0
            mlp.W_out[neuron] = _tensor(written[says].sum(0))
            neuron += 1
        for dimension in range(self.spec.read_dimensions):
            for sign in (1.0, -1.0):
                mlp.W_in[dimension, neuron], mlp.W_out[neuron, dimension] = sign, -sign
                neuron += 1


def _tensor(values) -> torch.Tensor:
    return torch.as_tensor(np.asarray(values), dtype=torch.float32)
