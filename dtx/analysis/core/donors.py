"""What an effect means beside its donors: activations from other worlds, each with what it must bring.

A place that carries the *answer* must bring 1 from a world with the source run's answer, and 0 from one with
the base run's. A place that carries *what was edited* must bring 1 from a donor that is like the source run
in that, and 0 from one like the base run. In Memory these differ: of a flipped instruction, the donor with
the clean run's turn has the corrupt run's instruction. A place that any other world's activations disturb
alike brings neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import pandas as pd

from dtx.analysis.core.effects import estimate_of, words
from dtx.analysis.core.gaps import Condition
from dtx.analysis.core.patching_spec import DONORS, EDIT
from dtx.analysis.core.verdicts import About, Control, Relation, Verdict
from dtx.statistics import Estimate

ANSWER, EDITED = "the answer", "what was edited"
"""What a place may carry."""


@dataclass(frozen=True)
class Part:
    """What a claim comes to in one condition: whether it holds (None: not decided), and the numbers."""

    condition: Condition
    holds: bool | None
    text: str


@dataclass(frozen=True)
class Beside:
    """An effect at one place beside its donors there.

    Attributes:
        place: ``L1 mlp_out at S5``. own: The edit's. donors: By kind; none where none was measured.
        edit_as: By kind, which run the donors are like in what was edited; "" where they differ in that.
    """

    condition: Condition
    place: str
    own: Estimate
    donors: Mapping[str, Estimate]
    edit_as: Mapping[str, str] = field(default_factory=dict)

    def readings(self) -> Iterator[tuple[str, str, str]]:
        """(what the place may carry, kind of the donor that must bring 0, of the one that must bring 1)."""
        expected = self.condition.direction.expected
        by_answer = {expected(kind.removeprefix("donor_")): kind for kind in self.donors}
        by_edit = {expected(self.edit_as.get(kind, "")): kind for kind in self.donors}
        for what, kinds in ((ANSWER, by_answer), (EDITED, by_edit)):
            if {0, 1} <= set(kinds) and not (what == EDITED and kinds == by_answer):
                yield what, kinds[0], kinds[1]

    def controls(self) -> Iterator[tuple[str, tuple[Control, Control]]]:
        """For each thing that the place may carry, its two controls."""
        for what, zero, one in self.readings():
            name = f"{self.condition.edit} ({self.condition}): {self.place}"
            none = f"unrelated layouts without {what}, expected 0"
            yield (
                what,
                (
                    Control.of(
                        f"{name} against {none}", self.own, Relation.ABOVE, self.donors[zero]
                    ),
                    Control.of(
                        f"{name}, unrelated layouts with {what}, expected 1, against {none}",
                        self.donors[one],
                        Relation.ABOVE,
                        self.donors[zero],
                    ),
                ),
            )

    def carries(self) -> str | None:
        """What the place carries by its donors; None if they do not tell."""
        return next((w for w, controls in self.controls() if all(c.holds for c in controls)), None)

    def holds(self) -> bool | None:
        """Whether the effect is the edit's own; None if intervals do not tell, or no donor was measured."""
        if self.carries() is not None:
            return True
        verdicts = []
        for _, zero, one in self.readings():
            against = self.donors[zero]
            verdicts.append(
                Verdict.judge(
                    Relation.ABOVE.decides(value, against) for value in (self.own, self.donors[one])
                )
            )
        refuted = bool(verdicts) and all(v is Verdict.NOT_CONFIRMED for v in verdicts)
        return False if refuted else None

    def words(self) -> str:
        """The numbers, and what they say: ``L1 mlp_out at S5 0.84 [...]; donors with the answer ...``."""
        said = f"{self.place} {words(self.own)}"
        if not self.donors:
            return f"{said}; no control measured"
        readings = list(self.readings())
        carries = self.carries()
        shown = [r for r in readings if r[0] == carries] or readings
        beside = "; ".join(
            f"unrelated layouts with {what} {words(self.donors[one])} (expected 1), without it "
            f"{words(self.donors[zero])} (expected 0)"
            for what, zero, one in shown
        )
        return f"{said}; control: {beside}: " + (
            f"it carries {carries}" if carries else "no control holds"
        )


def beside(condition: Condition, table: pd.DataFrame, row: pd.Series, of: list[str], place: str,
           edit_as: Mapping[tuple[str, float, str], str]) -> Beside:  # fmt: skip
    """An effect and its donors at the same place.

    Args:
        condition: Where. table: All effects. row: The edit's, one of them.
        of: Columns that say which place it is. place: In words.
        edit_as: Of :func:`edited_like`.
    """
    here = condition.rows(table)
    for name in of:
        here = here[here[name] == row[name]]
    here = here[here["rho"].notna()].set_index("kind")
    donors = {kind: estimate_of(here.loc[kind]) for kind in DONORS if kind in here.index}
    like = {kind: edit_as.get((condition.edit, condition.target, kind), "") for kind in donors}
    return Beside(condition, place, estimate_of(row), donors, like)


def edited_like(runs: pd.DataFrame) -> dict[tuple[str, float, str], str]:
    """By edit, reward-to-go and kind of donor: which run all of them are like in what was edited."""
    donors = runs[runs["kind"].isin(DONORS)]
    like = {}
    for key, rows in donors.groupby(["edit", "reward_to_go", "kind"], sort=False):
        values = set(rows["edit_as"])
        edit, target, kind = key  # type: ignore[misc]
        like[str(edit), float(target), str(kind)] = values.pop() if len(values) == 1 else ""
    return like


def about(runs: pd.DataFrame, edit: str) -> About:
    """What claims about an edit are about: reward-to-go, if it changes no other token."""
    changed = runs.loc[(runs["edit"] == edit) & (runs["kind"] == EDIT), "changed"]
    tokens = " ".join(changed).split()
    of_reward_to_go = bool(tokens) and all(token.startswith("R") for token in tokens)
    return About.REWARD_TO_GO if of_reward_to_go else About.MODEL


def verdict(parts: list[Part]) -> Verdict:
    """Of a claim over its conditions: it depends if it holds in some and not, or not decidedly, in others."""
    if not parts:
        return Verdict.NOT_APPLICABLE
    holds = [part.holds for part in parts]
    if any(holds):
        return Verdict.of(all(holds), partly=True)
    return Verdict.NOT_DECIDED if None in holds else Verdict.NOT_CONFIRMED


def evidence(parts: list[Part], otherwise: str) -> str:
    """The numbers of every condition, and whether the claim holds there."""
    said = {True: "yes", False: "no", None: "not decided"}
    return (
        "; ".join(f"{part.condition}: {said[part.holds]}: {part.text}" for part in parts)
        or otherwise
    )


def chosen_controls(measured: Iterable[Beside]) -> list[Control]:
    """The controls of an analysis: those of the effects that its claims state, else of all effects.

    An edit whose donors fail is not established by itself; it takes nothing from another edit.
    """
    held, failed = [], []
    for each in measured:
        pairs = list(each.controls())
        good = [controls for _, controls in pairs if all(c.holds for c in controls)]
        if good:
            held += good[0]
        elif pairs:
            failed += pairs[0][1]
        else:
            name = (
                f"{each.condition.edit} ({each.condition}): {each.place} against unrelated layouts"
            )
            failed.append(
                Control(name=name, value=each.own.value, must_be=Relation.ABOVE, against=None)
            )
    return held or failed
