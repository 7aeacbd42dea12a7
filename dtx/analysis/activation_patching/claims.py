"""Claims about patching effects: an edit moves through the tokens as the MemoryDT study saw it.

Source of the claims: the MemoryDT study, activation patching on states and on reward-to-go. Each is judged in
every direction and at every reward-to-go where the two runs differ, and never from a mean over those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from dtx.analysis.activation_patching.sweep import BOTH, EDITED, LAST, OTHERS
from dtx.analysis.core.donors import (
    Beside,
    Part,
    about,
    beside,
    edited_like,
    evidence,
    verdict,
)
from dtx.analysis.core.effects import estimate_of, words
from dtx.analysis.core.gaps import Condition, Gaps
from dtx.analysis.core.patching_spec import EDIT, Direction
from dtx.analysis.core.verdicts import About, Claim, Relation, Verdict
from dtx.statistics import Estimate

MOST = 0.5
"""Share of the difference that must be brought for a place to "carry" it (2026-11-29: half of it)."""
THIRD = 0.2
"""What all third tokens together may bring at most, and what the edited and the last may lack together, if
the edit passes by no third token (2026-11-29: a fifth; fixed before any model was measured)."""
WHOLE = 0.01
"""How far from 1 the rho of a set of tokens may be that holds all that was edited (2026-11-29: rounding)."""
TIED = 0.005
"""Of places whose rho differs by less the first is the strongest (2026-11-29: equal in two decimals)."""
PLACE = ["name", "token"]


@dataclass(frozen=True)
class Measured:
    """The tables of a sweep, as the claims read them.

    Attributes:
        tables: ``effects``, ``mediation`` (means), ``sets``, ``runs``.
        gaps: Where the runs differ. directions: That were swept.
    """

    tables: Mapping[str, pd.DataFrame]
    gaps: Gaps
    directions: tuple[Direction, ...]

    def conditions(self, edit: str) -> list[Condition]:
        """Where an edit can be measured."""
        return self.gaps.conditions(edit, self.directions)

    def own(self, condition: Condition) -> pd.DataFrame:
        """The effects of the edit itself there."""
        rows = condition.rows(self.tables["effects"])
        return pd.DataFrame(rows[(rows["kind"] == EDIT) & rows["rho"].notna()])

    def beside(self, condition: Condition, row: pd.Series) -> Beside:
        """An effect and its donors at the same place."""
        effects, like = self.tables["effects"], edited_like(self.tables["runs"])
        return beside(condition, effects, row, PLACE, f"{row['name']} at {row['token']}", like)

    def strongest(self, condition: Condition) -> Beside | None:
        """The component that brings most before the last layer's end; None where nothing was measured."""
        own = components(self.own(condition))
        tied = own[own["rho"] > own["rho"].max() - TIED]
        return self.beside(condition, tied.iloc[0]) if len(tied) else None


def components(effects: pd.DataFrame) -> pd.DataFrame:
    """Rows of components; of the stream where no component was patched, but for the last layer's end."""
    inner = effects[effects["node"] != "resid_post"]
    parts = inner[~inner["node"].str.startswith("resid")]
    return pd.DataFrame(parts if len(parts) else inner)


def claims(measured: Measured, edits: list[str]) -> Iterator[Claim]:
    """Claims for each edit: that a component carries it, and how it moves.

    An edit of the world moves from its own token to the last state; one of reward-to-go is collected by an
    MLP at the last state. Which of both an edit is follows from the tokens that bring it.
    """
    for edit in edits:
        kind = edited_kind(measured.tables["sets"], edit)
        yield _carried(measured, edit)
        if kind == "S":
            yield _moves(measured, edit)
        elif kind == "R":
            yield _collected(measured, edit)


def edited_kind(sets: pd.DataFrame, edit: str) -> str:
    """S, R or A: the kind of token whose embeddings, patched together, bring an edit; "" for none alone."""
    rows = sets[(sets["edit"] == edit) & (sets["kind"] == EDIT) & sets["rho"].notna()]
    least: dict = rows.groupby("set")["rho"].min().to_dict()
    return next((kind for kind in "SRA" if least.get(kind, 0.0) > 1 - WHOLE), "")


def _carried(measured: Measured, edit: str) -> Claim:
    """A component brings the edit beyond what other worlds' activations bring there."""
    conditions = measured.conditions(edit)
    found = [(c, best) for c in conditions if (best := measured.strongest(c)) is not None]
    parts = [Part(c, measured.gaps.there(c) and best.holds(), best.words()) for c, best in found]
    unmeasured = bool(found) and not any(best.donors for _, best in found)
    return Claim(
        id=f"{edit}_carried",
        text=f"the strongest component of {edit} restores more than its control",
        criterion="at one token it restores more than activations from an unrelated layout without the "
        "answer, and so do activations from one with it; beyond the intervals",
        evidence=evidence(parts, measured.gaps.words(edit)),
        verdict=Verdict.NOT_ESTABLISHED if unmeasured else verdict(parts),
        about=about(measured.tables["runs"], edit),
    )


def _moves(measured: Measured, edit: str) -> Claim:
    """At the edited token first, at the last state in the end, and by no third tokens, taken together."""
    parts, shown = [], ""
    for condition in measured.conditions(edit):
        means = condition.rows(measured.tables["mediation"])
        if not len(means):
            continue
        at = {(int(row["layer"]), str(row["set"])): estimate_of(row) for _, row in means.iterrows()}
        if Relation.ABOVE.decides(at[0, LAST], MOST):
            alone = words(at[0, LAST])
            shown = (
                f"the last state shows {edit} itself ({condition}: {alone}), nothing has to move"
            )
            parts = []
            break
        parts.append(_moved(measured, condition, at))
    return Claim(
        id=f"{edit}_moves",
        text=f"{edit} moves from the edited token to the last state",
        criterion=f"patching the stream restores over {MOST} at the edited token before the first layer and "
        "at the last state before the last layer, there more than its control; before every layer all third "
        f"tokens together restore 0 within {THIRD}, the edited and the last together 1 within {THIRD}",
        evidence=shown or evidence(parts, measured.gaps.words(edit)),
        verdict=verdict(parts),
    )


def _moved(
    measured: Measured, condition: Condition, at: Mapping[tuple[int, str], Estimate]
) -> Part:
    """Whether it moved in one condition, from the means of sets by layer."""
    final = max(layer for layer, _ in at)
    places = [measured.gaps.there(condition)]
    places.append(Relation.ABOVE.decides(at[0, EDITED], MOST))
    places.append(Relation.BELOW.decides(at[0, LAST], MOST))
    places.append(Relation.ABOVE.decides(at[final, LAST], MOST))
    for layer in range(1, final + 1):
        places.append(within(at[layer, OTHERS], 0.0))
        places.append(within(at[layer, BOTH], 1.0))
    own = measured.own(condition)
    there = own[(own["node"] == "resid_pre") & (own["layer"] == final)]
    there = there[there["position"] == own["position"].max()]
    said = ""
    if len(there):
        last = measured.beside(condition, there.iloc[0])
        places.append(last.holds())
        said = f"; {last.words()}"
    path = ", ".join(
        " / ".join(words(at[layer, name]) for name in (EDITED, LAST, OTHERS, BOTH))
        for layer in range(final + 1)
    )
    judged = Verdict.judge(places)
    holds = None if judged is Verdict.NOT_DECIDED else judged is Verdict.CONFIRMED
    return Part(
        condition, holds, f"edited / last / all others / edited and last, by layer: {path}{said}"
    )


def within(estimate: Estimate, of: float) -> bool | None:
    """Whether a share is as near to a number as :data:`THIRD`, to both sides; None if that is not decided."""
    sides = (
        Relation.AT_LEAST.decides(estimate, of - THIRD),
        Relation.AT_MOST.decides(estimate, of + THIRD),
    )
    judged = Verdict.judge(sides)
    return None if judged is Verdict.NOT_DECIDED else judged is Verdict.CONFIRMED


def _collected(measured: Measured, edit: str) -> Claim:
    """An MLP's output at the last state brings most of what all reward-to-go tokens together do."""
    parts = []
    for condition in measured.conditions(edit):
        own = measured.own(condition)
        here = own[own["position"] == own["position"].max()]
        mlp = here[here["node"] == "mlp_out"]
        if not len(mlp):
            continue
        best = measured.beside(condition, mlp.loc[mlp["rho"].idxmax()])
        attention = here[here["node"] == "attn_out"]
        asked = own[(own["node"] == "resid_pre") & (own["layer"] == 0)]
        asked = asked[asked["token"].str.startswith("R")]
        judged = Verdict.judge(
            (
                measured.gaps.there(condition),
                Relation.ABOVE.decides(best.own, MOST),
                best.holds(),
            )
        )
        said = best.words()
        if len(attention):
            said += f"; attention outputs there at most {words(_highest(attention))}"
        if len(asked):
            said += f"; a single R token at most {words(_highest(asked))}"
        holds = None if judged is Verdict.NOT_DECIDED else judged is Verdict.CONFIRMED
        parts.append(Part(condition, holds, said))
    return Claim(
        id=f"{edit}_collected",
        text=f"{edit} is collected by an MLP",
        criterion=f"one MLP's output at the last state restores over {MOST}, and more than its control; "
        "beyond the intervals",
        evidence=evidence(parts, measured.gaps.words(edit)),
        verdict=verdict(parts),
        about=About.REWARD_TO_GO,
    )


def _highest(rows: pd.DataFrame) -> Estimate:
    return estimate_of(rows.loc[rows["rho"].idxmax()])
