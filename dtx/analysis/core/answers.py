"""What analyses answer about known models, in one form for the scorecard.

An analysis' ``truth.py`` reads its tables and yields frames with columns ``part`` (what is scored apart, ''
if all is), ``edit``, ``what`` (node, edge, neuron, point), ``position`` (token; -1: none), ``score``,
``label`` (1 in the circuit, 0 not, missing: not scored) and ``expected`` (the exact score, where it is
known). A score is a share: of the restored logit difference, or of the whole one; in a negative, which has no
decision to restore, of what a decision of its own would be. ``verdict`` is a claim's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dtx.analysis.core.patching_spec import HOOKS
from dtx.analysis.core.result import CLAIMS, About, Result, Verdict
from dtx.analysis.core.scoring import Wrong
from dtx.analysis.core.truth import ANY_INPUT, FLIPS, TOGETHER, Known, Truth
from dtx.dt.circuit import Circuit
from dtx.dt.model import ModelConfig
from dtx.dt.names import renamed
from dtx.dt.paths import edges as all_edges

COLUMNS = ["part", "edit", "what", "position", "score", "label", "expected", "verdict"]
FINDING = "finding"
"""In the place of a claim: the finding of a result that has none, which is a statement, too."""
GAP = 0.5
"""Logits: where the logit difference is smaller, an effect must be as large as this to count as found."""


@dataclass(frozen=True)
class Subject:
    """The result of an analysis of a model, with what is known of the model.

    Attributes:
        result: Of the analysis.
        model: Sizes of the model.
        circuit: Of the model; None for a negative.
        wrong: What must not be found in a negative; None for a model whose circuit is known.
        positive: Score from which something counts as found.
        decision: Of a negative: logits by which a decision of its own would move the logit difference, from
            the lead of its most differing pair of actions to the reverse. None for a known model.
    """

    result: Result
    model: ModelConfig
    circuit: Circuit | None
    wrong: Wrong | None
    positive: float
    decision: float | None = None

    def table(self, name: str) -> pd.DataFrame:
        """A table of the analysis."""
        return self.result.tables[name]

    def metric(self, name: str) -> float:
        """A metric of the analysis; NaN where it is missing."""
        value = self.result.metrics.get(name)
        return np.nan if value is None else value

    def size(self, name: str) -> float:
        """A logit difference that effects are shares of.

        Under the gap an effect must be as large as the gap. In a negative: its own decision.
        """
        if self.decision is not None:
            return self.decision
        size = abs(self.metric(name))
        return size if size >= GAP else GAP / self.positive

    def effect(self, table: pd.DataFrame) -> pd.Series:
        """The effect of patches: ``rho``; in a negative their ``change`` as a share of its own decision."""
        if self.decision is None:
            return pd.Series(table["rho"])
        return pd.Series(table["change"] / self.decision)

    def shares(self, table: pd.DataFrame, score: str, runs: pd.DataFrame) -> pd.Series:
        """Scores in units of rho; in a negative as shares of a decision of its own.

        Args:
            table: Has columns ``edit`` and ``score``.
            runs: One row a pair, with the logit differences that rho is a share of.
        """
        if self.decision is None:
            return pd.Series(table[score])
        span = (runs["ld_clean"] - runs["ld_corrupt"]).abs().groupby(runs["edit"]).mean()
        return pd.Series(table[score] * table["edit"].map(span) / self.decision)

    def known(self, tokens: int) -> Known | None:
        """The circuit laid over windows of so many tokens; None of a negative."""
        return Known(self.circuit, (tokens + 1) // 3) if self.circuit else None

    def edits(self, table: pd.DataFrame) -> pd.DataFrame:
        """Rows of edits that this model is scored on."""
        keep = table["kind"] == "edit"
        if self.wrong is Wrong.reward_to_go:
            keep &= table["edit"].map(FLIPS.get) == "reward_to_go"
        return table.loc[keep]


def answers_of(
    subject: Subject, frames: Iterable[pd.DataFrame], truth: Callable[[str], bool | None]
) -> pd.DataFrame:
    """Everything that an analysis answered and that is known to be right or wrong, its claims too.

    Args:
        subject: The analysis' result on a model.
        frames: What its ``truth.py`` yields.
        truth: Whether a claim, by its id, is true of the model; None: that is not known.
    """
    everything = [frame for frame in (*frames, _claims(subject, truth)) if len(frame)]
    if not everything:
        return pd.DataFrame(columns=COLUMNS)
    return pd.concat(everything, ignore_index=True).reindex(columns=COLUMNS)


def _claims(subject: Subject, truth: Callable[[str], bool | None]) -> pd.DataFrame:
    """One answer a statement: score 1 if it was made.

    A true one is made if it is confirmed; of a false one "depends" is a statement, too. The finding of a
    result without claims is one if it is established.
    """
    rows = []
    for claim in subject.result.claims:
        label = _label(subject, claim.about, truth(claim.id))
        if label is not None:
            made = claim.verdict is Verdict.CONFIRMED if label else claim.verdict.states
            rows.append((claim.text, float(made), float(label), claim.verdict.value))
    if not subject.result.claims and subject.wrong is not None:
        label = _label(subject, subject.result.about, None)
        if label is not None:
            rows.append((FINDING, float(subject.result.established), float(label), ""))
    frame = pd.DataFrame(rows, columns=["what", "score", "label", "verdict"])
    return frame.assign(part=CLAIMS, edit="", position=TOGETHER, expected=np.nan)


def _label(subject: Subject, about: About, truth: bool | None) -> int | None:
    """Whether a statement is true of the model (1), must not be made (0), or is not scored (None)."""
    if not about.needs_control:
        return None
    if subject.wrong is Wrong.everything:
        return 0
    if subject.wrong is Wrong.reward_to_go:
        return 0 if about is About.REWARD_TO_GO else None
    return None if truth is None else int(truth)


def nodes(
    subject: Subject,
    table: pd.DataFrame,
    by: list[str],
    score: str,
    part: Callable[[str], str],
) -> pd.DataFrame:
    """Means over pairs by node and token, beside the truth."""
    if subject.decision is not None and (change := f"{score}_change") in table:
        table = table.assign(**{score: table[change] / subject.decision})
    mean = table.groupby(by, sort=False, observed=True)[score].mean().reset_index()
    if subject.circuit is None:
        mean[score] = mean[score].fillna(0)  # nothing was measured, so nothing is found
    known = subject.known(_tokens(mean))

    def truth(row: Any) -> Truth:
        head = None if row.head < 0 else row.head
        return known.node(row.edit, f"blocks.{row.layer}.{HOOKS[row.node]}", head, row.position)  # type: ignore[union-attr]

    return beside(mean.rename(columns={score: "score", "name": "what"}), known, truth, part)


def edges(
    subject: Subject,
    table: pd.DataFrame,
    runs: pd.DataFrame,
    score: str,
    part: Callable[[str], str],
) -> pd.DataFrame:
    """Means over pairs by edge and token; an edge that the table leaves out is one without effect.

    Where no pair's runs differ by the gap, nothing is measured, and nothing is found: negatives have a gap of
    their own.
    """
    by = ["edit", "sender", "receiver", "input", "position"]
    table = table.assign(**{name: table[name].astype(str) for name in by[:-1]})
    table = table.assign(**{name: _renamed(table[name]) for name in ("sender", "receiver")})
    means = table.groupby(by)[score].mean()
    edits = sorted(set(subject.edits(runs)["edit"]))
    places = sorted(set(means.index.get_level_values("position"))) or [TOGETHER]
    known = subject.known(max(places) + 1)
    frame = pd.DataFrame(
        [
            (edit, e.sender.name, e.receiver.name, e.receiver.input, place)
            for edit in edits
            for e in all_edges(subject.model)
            for place in places
        ],
        columns=by,
    )
    frame["score"] = means.reindex(pd.MultiIndex.from_frame(frame)).fillna(0).to_numpy()
    frame["score"] = subject.shares(frame, "score", runs)
    if known and known.any_input:
        # By what it reads or by where it looks: one edge for both.
        frame["input"] = frame["input"].replace(dict.fromkeys("qkv", ANY_INPUT))
        frame["score"] = frame["score"].abs()
        frame = frame.groupby(by, sort=False)["score"].max().reset_index()
    frame["what"] = frame["sender"] + " > " + frame["receiver"] + " " + frame["input"]

    def truth(row: Any) -> Truth:
        return known.edge(row.edit, row.sender, row.receiver, row.input, row.position)  # type: ignore[union-attr]

    return beside(frame, known, truth, part)


def _renamed(names: pd.Series) -> pd.Series:
    """Today's names: recorded results may have those of before."""
    return names.map({name: renamed(name) for name in names.unique()})


def beside(
    mean: pd.DataFrame,
    known: Known | None,
    truth: Callable[[Any], Truth],
    part: Callable[[str], str],
) -> pd.DataFrame:
    """Answers with labels; of a negative nothing may be found."""
    truths = [truth(row) if known else Truth(0, None) for row in mean.itertuples()]
    return mean.assign(
        part=mean["edit"].map(part),
        label=np.array([t.label for t in truths], dtype=float),
        expected=np.array([t.rho for t in truths], dtype=float),
    )


def _tokens(table: pd.DataFrame) -> int:
    return int(table["position"].max()) + 1 if len(table) else 0


def place_of(token: str) -> int:
    """``S2`` is token 4 of a window; edges that are patched everywhere have no place."""
    return TOGETHER if token == "all" else 3 * (int(token[1:]) - 1) + "RSA".index(token[0])


def state_or_reward_to_go(edit: str) -> str:
    return "reward_to_go" if FLIPS.get(edit) == "reward_to_go" else "state"


def rows(
    what: Any, score: Any, label: Any, *, part: Any = "", position: Any = TOGETHER
) -> pd.DataFrame:
    """Answers of analyses without patching."""
    answers = pd.DataFrame({"score": np.asarray(score, dtype=float)})
    return answers.assign(
        what=np.asarray(what),
        part=np.asarray(part),
        edit="",
        position=np.asarray(position),
        label=np.array(label, dtype=float),
        expected=np.nan,
    )
