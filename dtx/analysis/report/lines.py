"""The headline lines of a report, read from what the analyses wrote.

A line is *established*, *not established* (its control or exact check failed: the analysis says which), or
*not asked* (the analysis that answers it was not chosen).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dtx.analysis.activation_patching.claims import strongest
from dtx.analysis.core.claims import CLAIMS, CONFIRMED, DEPENDS, NOT_CONFIRMED, Claim, read_claims
from dtx.report import read_metrics
from dtx.stage import Stage

ESTABLISHED, NOT_ESTABLISHED, NOT_ASKED = "established", "not established", "not asked"


@dataclass(frozen=True)
class Line:
    """A headline line.

    Attributes:
        question: What is asked.
        answer: Numbers with intervals and controls, a text line each; or which analysis would tell.
        status: established, not established or not asked.
        source: Labels of the artefacts that it comes from.
    """

    question: str
    answer: str
    status: str
    source: str


@dataclass(frozen=True)
class Part:
    """An answer, whether it holds, and the stages that it comes from; several make a line."""

    answer: str
    holds: bool
    stages: tuple[Stage, ...]


class Given:
    """The artefacts, by the name of their stage."""

    def __init__(self, analyses: Mapping[str, Stage]):
        self.all = list(analyses.values())

    def of(self, name: str) -> list[Stage]:
        """All stages of that name: an analysis may be there twice with other settings."""
        return [stage for stage in self.all if stage.name == name]


def lines(analyses: Mapping[str, Stage]) -> list[Line]:
    """The ten lines that stand at the top, from the analyses that are there."""
    given = Given(analyses)
    return [_line(question, wanted, parts(given)) for question, wanted, parts in QUESTIONS]


def counts(found: list[Line], analyses: Mapping[str, Stage]) -> dict[str, float | None]:
    """``report/*``: how many lines and claims came out how."""
    claims = [claim for stage in analyses.values() for claim in claims_of(stage)]
    verdicts = {"confirmed": CONFIRMED, "not_confirmed": NOT_CONFIRMED, "depends": DEPENDS}
    statuses = {
        "established": ESTABLISHED,
        "not_established": NOT_ESTABLISHED,
        "not_asked": NOT_ASKED,
    }
    return {
        "report/analyses": float(len(analyses)),
        "report/lines": float(len(found)),
        **{f"report/{n}": float(sum(x.status == s for x in found)) for n, s in statuses.items()},
        "report/claims": float(len(claims)),
        **{f"report/{n}": float(sum(c.verdict == v for c in claims)) for n, v in verdicts.items()},
    }


def claims_of(stage: Stage) -> list[Claim]:
    """The claims that an analysis judged; none if it judges none."""
    return read_claims(stage.path) if (stage.path / CLAIMS).exists() else []


def refused(stage: Stage) -> bool:
    """Whether the analysis itself says that it established nothing."""
    return stage.summary().lower().startswith("not established")


def _line(question: str, wanted: str, parts: list[Part]) -> Line:
    if not parts:
        return Line(question, f"would be told by {wanted}", NOT_ASKED, "")
    status = ESTABLISHED if all(part.holds for part in parts) else NOT_ESTABLISHED
    labels = dict.fromkeys(stage.label for part in parts for stage in part.stages)
    return Line(question, "\n".join(part.answer for part in parts), status, " ".join(labels))


# --- the lines ---------------------------------------------------------------------------------------


def _hypotheses(given: Given) -> list[Part]:
    stages = tuple(stage for stage in given.all if claims_of(stage))
    everything = [claim for stage in stages for claim in claims_of(stage)]
    if not everything:
        return []
    said = []
    for verdict in (CONFIRMED, DEPENDS, NOT_CONFIRMED):
        mine = [claim.claim for claim in everything if claim.verdict == verdict]
        if mine:
            said.append(f"{verdict}: {', '.join(mine)}")
    lost = [claim.claim for claim in everything if claim.verdict.startswith("not established")]
    if lost:
        said.append(f"not established: {', '.join(lost)}")
    return [Part("\n".join(said), len(lost) < len(everything), stages)]


def _calibration(given: Given) -> list[Part]:
    found = []
    for stage in given.of("calibration"):
        n = read_metrics(stage.path)
        curve = pd.read_parquet(stage.path / "tables" / "curve.parquet")
        mine = curve[curve["model"] == curve["model"].iloc[0]]
        # Where training has hardly any episode of such a return, what is achieved says little.
        asked = mine[mine["supported"]].sort_values("target").iloc[[-1, 0]]
        said = [
            f"asked for {row.target:g}: return {row.mean_return:.3f} [{row.low:.3f}, {row.high:.3f}] "
            f"({row.distinct_episodes} distinct of {row.episodes} episodes)"
            for row in asked.itertuples()
        ]
        error, rank = n["calibration/mae"], n["calibration/spearman"]
        said.append(f"calibration error {_say(error, '.3f')}, Spearman {_say(rank, '.3f')}")
        found.append(Part(", ".join(said), bool(n["calibration/steered"]), (stage,)))
    return found


def _decision(given: Given) -> list[Part]:
    found = []
    for stage in given.of("psychology"):
        n = read_metrics(stage.path)
        said = (
            f"{_say(n['psychology/decision_squares'], '.0f')} decision squares, "
            f"{_say(n['psychology/decision_squares_before_turn'], '.0f')} before the turn "
            f"(untrained {_say(n['psychology/untrained_decision_squares'], '.1f')})"
        )
        found.append(Part(said, not refused(stage), (stage,)))
    for stage in given.of("activation_patching"):
        runs = pd.read_parquet(stage.path / "tables" / "runs.parquet")
        said = []
        for edit, mine in runs[runs["kind"] == "edit"].groupby("edit", sort=False):
            gap = (mine["ld_clean"] - mine["ld_corrupt"]).abs().mean()
            flips = (np.sign(mine["ld_clean"]) != np.sign(mine["ld_corrupt"])).mean()
            said.append(f"{edit}: moves the logit difference by {gap:.2f}, flips it in {flips:.0%}")
        found.append(Part("\n".join(said), not refused(stage), (stage,)))
    return found


def _flow(given: Given) -> list[Part]:
    """Where an edit's effect lies in the stream before each layer, and what carries it to the last state."""
    found = []
    for stage in given.of("activation_patching"):
        effects = pd.read_parquet(stage.path / "tables" / "effects.parquet")
        for edit in effects["edit"].drop_duplicates():
            found.append(Part(f"{edit}: {_flow_of(effects, edit)}", not refused(stage), (stage,)))
    return found


def _flow_of(effects: pd.DataFrame, edit: str) -> str:
    """One edit's flow, if its best component brings more than a shuffled donor does there."""
    best = strongest(effects, edit)
    if best is None:
        return "the runs differ by less than the gap"
    if not best.established:
        return f"a shuffled donor brings as much at {best.name}, {best.token} ({best.control:.2f})"
    of_edit = (effects["edit"] == edit) & (effects["kind"] == "edit") & effects["rho"].notna()
    mine = effects.loc[of_edit]
    over = mine.groupby(["layer", "node", "name", "token"], sort=False)["rho"].mean().reset_index()
    stream = over[over["node"] == "resid_pre"]
    where = stream.loc[stream.groupby("layer")["rho"].idxmax()]
    said = [
        f"before layer {row.layer} at {row.token} ({row.rho:.2f})" for row in where.itertuples()
    ]
    said.append(f"most by one component: {best.name} at {best.token} ({best.rho:.2f})")
    return ", ".join(said)


def _steered_by_reward_to_go(given: Given) -> list[Part]:
    found = []
    for stage in given.of("calibration"):
        n = read_metrics(stage.path)
        clone = n.get("calibration/clone_spread")
        said = f"achieved return moves by {_say(n['calibration/spread'], '.3f')} with the target"
        beside = f", behaviour clone {_say(clone, '.3f')}" if clone is not None else ""
        spread = n["calibration/spread"]
        holds = clone is not None and spread is not None and spread > clone
        found.append(Part(said + (beside or ", no clone beside it"), holds, (stage,)))
    return found


def _own_words(*names: str) -> Callable[[Given], list[Part]]:
    """What the analyses of these names say themselves."""

    def parts(given: Given) -> list[Part]:
        stages = [stage for name in names for stage in given.of(name)]
        return [Part(stage.summary(), not refused(stage), (stage,)) for stage in stages]

    return parts


def _health(given: Given) -> list[Part]:
    """Every exact check of every analysis, and the scorecard."""
    errors = [
        (name.split("/")[0].replace("_", " "), value, stage)
        for stage in given.all
        for name, value in read_metrics(stage.path).items()
        if name.endswith("identity_error")
    ]
    if not errors:
        return _own_words("scorecard")(given)
    said = ", ".join(f"{group} {_say(value, '.1g')}" for group, value, _ in errors)
    stages = tuple(stage for _, _, stage in errors)
    holds = not any(refused(stage) for stage in stages)
    return [Part(f"identity errors: {said}", holds, stages), *_own_words("scorecard")(given)]


def _say(value: float | None, form: str) -> str:
    return "missing" if value is None else format(value, form)


QUESTIONS: tuple[tuple[str, str, Callable[[Given], list[Part]]], ...] = (
    ("What became of each declared hypothesis?", "psychology, attention, ...", _hypotheses),
    ("Does it return what is asked for?", "calibration", _calibration),
    (
        "Where does it decide, and what flips the decision?",
        "psychology and activation_patching",
        _decision,
    ),
    ("Which circuit is enough?", "smallest_circuit", _own_words("smallest_circuit")),
    ("How does the information flow?", "activation_patching", _flow),
    ("Does reward-to-go matter, beside a clone?", "calibration", _steered_by_reward_to_go),
    ("Can it be steered, and what else changes?", "steering", _own_words("steering")),
    (
        "What do sparse features recover?",
        "a sparse autoencoder (not part of dtx yet)",
        _own_words("sae"),
    ),
    (
        "What can be read from its activations?",
        "a probe (not part of dtx yet)",
        _own_words("probes"),
    ),
    ("Are the instruments sound?", "scorecard, equivalence, attribution", _health),
)
