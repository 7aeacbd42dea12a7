"""What each analysis answered about a model, read from its tables, beside what is true.

One adapter an analysis: a function of its name that gets a :class:`Subject` and yields frames with columns
``part`` (what is scored apart, '' if all is), ``edit``, ``what`` (node, edge, neuron, point), ``position``
(token; -1: none), ``score``, ``label`` (1 in the circuit, 0 not, missing: not scored) and ``expected`` (the
exact score, where it is known). A score is a share: of the restored logit difference, or of the whole one.
An analysis without an adapter has nothing to be right or wrong about but its identities and claims.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dtx.analysis.activation_patching.compute import HOOKS
from dtx.analysis.scorecard import Wrong
from dtx.analysis.scorecard.claims import claims
from dtx.analysis.scorecard.truth import FLIPS, HOWEVER, TOGETHER, Known, Truth, name_of
from dtx.dt.circuit import Circuit, Neuron
from dtx.report import read_metrics

COLUMNS = ["part", "edit", "what", "position", "score", "label", "expected"]
GAP = 0.5
"""Logits: where the logit difference is smaller, an effect must be as large as this to count as found."""


@dataclass(frozen=True)
class Subject:
    """An analysis that was run on a model.

    Attributes:
        stage: The analysis. folder: Where its tables are.
        circuit: Of the model; None for a negative.
        wrong: What must not be found in a negative; None for a model whose circuit is known.
        positive: Score from which something counts as found.
    """

    stage: Any
    folder: Path
    circuit: Circuit | None
    wrong: Wrong | None
    positive: float

    def table(self, name: str) -> pd.DataFrame:
        """A table of the analysis."""
        return pd.read_parquet(self.folder / "tables" / f"{name}.parquet")

    def headline(self, name: str) -> float:
        """A headline number of the analysis; NaN where it is missing."""
        value = read_metrics(self.folder).get(name)
        return np.nan if value is None else value

    def size(self, name: str) -> float:
        """A logit difference that effects are shares of; under the gap one must be as large as the gap."""
        size = abs(self.headline(name))
        return size if size >= GAP else GAP / self.positive

    def known(self, tokens: int) -> Known | None:
        """The circuit laid over windows of so many tokens; None of a negative."""
        return Known(self.circuit, (tokens + 1) // 3) if self.circuit else None

    def edits(self, table: pd.DataFrame) -> pd.DataFrame:
        """Rows of edits that this model is scored on."""
        keep = table["kind"] == "edit"
        if self.wrong is Wrong.reward_to_go:
            keep &= table["edit"].map(FLIPS.get) == "reward_to_go"
        return table.loc[keep]


def answers(name: str, subject: Subject) -> pd.DataFrame:
    """Everything that an analysis said and that is known to be right or wrong."""
    frames = list(ADAPTERS[name](subject)) if name in ADAPTERS else []
    frames += list(claims(name, subject.folder, subject.circuit, subject.wrong))
    frames = [frame for frame in frames if len(frame)]
    if not frames:
        return pd.DataFrame(columns=COLUMNS)
    return pd.concat(frames, ignore_index=True).reindex(columns=COLUMNS)


# --- patching --------------------------------------------------------------------------------------------


def effect(table: pd.DataFrame, gap: float, positive: float) -> pd.Series:
    """The effect of a patch: rho or, where the runs are closer than the gap, the change against the gap.

    There a change as large as the gap counts as found; else nothing could be found in a negative, however
    wrong a patch is.
    """
    rho = table["rho"].to_numpy()
    return pd.Series(
        np.where(np.isfinite(rho), rho, positive * table["change"] / gap), index=table.index
    )


def activation_patching(subject: Subject) -> Iterator[pd.DataFrame]:
    """C2 (``state``) and C3 (``reward_to_go``): mean effect of each node at each token."""
    table = subject.edits(subject.table("patches"))
    gap = subject.stage.pairs.checks.min_ld_gap
    table = table.assign(effect=effect(table, gap, subject.positive))
    by = ["edit", "layer", "node", "head", "name", "position"]
    yield _nodes(subject, table, by, "effect", _state_or_reward_to_go)


def attribution_patching(subject: Subject) -> Iterator[pd.DataFrame]:
    """C4: every estimate of nodes and edges, part by part."""
    from dtx.analysis.attribution_patching import EDGE_METHODS, NODE_METHODS

    table = subject.edits(subject.table("nodes"))
    by = ["edit", "layer", "node", "head", "name", "position"]
    for method in NODE_METHODS:
        yield _nodes(subject, table, by, method, lambda _, m=method: m).assign(expected=np.nan)
    columns = ["edit", "kind", "sender", "receiver", "input", "token", *EDGE_METHODS]
    table = subject.edits(subject.table("estimated_edges").reindex(columns=columns))
    table = table.assign(position=table["token"].map(_place))
    for method in EDGE_METHODS:
        yield _edges(subject, table, method, lambda _, m=method: m).assign(expected=np.nan)


def path_patching(subject: Subject) -> Iterator[pd.DataFrame]:
    """C5: mean rho of each edge at each token."""
    table = subject.edits(subject.table("edges"))
    yield _edges(subject, table, "rho", _state_or_reward_to_go)


def smallest_circuit(subject: Subject) -> Iterator[pd.DataFrame]:
    """C6: 1 for each edge at a token that the smallest circuit has."""
    paths = subject.stage.paths
    of_paths = dataclasses.replace(subject, stage=paths, folder=paths.path)
    table = subject.table("circuit").assign(kind="edit", rho=1.0)
    yield _edges(of_paths, subject.edits(table), "rho", _state_or_reward_to_go)


def _nodes(
    subject: Subject,
    table: pd.DataFrame,
    by: list[str],
    score: str,
    part: Callable[[str], str],
) -> pd.DataFrame:
    """Means over pairs by node and token, beside the truth."""
    mean = table.groupby(by, sort=False, observed=True)[score].mean().reset_index()
    if subject.circuit is None:
        mean[score] = mean[score].fillna(0)  # nothing is said, so nothing is found
    known = subject.known(_tokens(mean))

    def truth(row: Any) -> Truth:
        head = None if row.head < 0 else row.head
        return known.node(row.edit, f"blocks.{row.layer}.{HOOKS[row.node]}", head, row.position)  # type: ignore[union-attr]

    return _beside(mean.rename(columns={score: "score", "name": "what"}), known, truth, part)


def _edges(
    subject: Subject, table: pd.DataFrame, score: str, part: Callable[[str], str]
) -> pd.DataFrame:
    """Means over pairs by edge and token; an edge that the table leaves out is one without effect.

    Where no pair's runs differ by the gap, the instrument says nothing, and nothing is found.
    """
    from dtx.dt.paths import edges

    by = ["edit", "sender", "receiver", "input", "position"]
    table = table.assign(**{name: table[name].astype(str) for name in by[:-1]})
    said = table.groupby(by)[score].mean()
    edits = sorted(set(subject.edits(subject.table("runs"))["edit"]))
    places = sorted(set(said.index.get_level_values("position"))) or [TOGETHER]
    known = subject.known(max(places) + 1)
    frame = pd.DataFrame(
        [
            (edit, e.sender.name, e.receiver.name, e.receiver.input, place)
            for edit in edits
            for e in edges(subject.stage.dt.model_config())
            for place in places
        ],
        columns=by,
    )
    frame["score"] = said.reindex(pd.MultiIndex.from_frame(frame)).fillna(0).to_numpy()
    if known and known.learnt:
        # How a head is told is its own choice, by what it reads or by where it looks: one edge for both.
        frame["input"] = frame["input"].replace(dict.fromkeys("qkv", HOWEVER))
        frame["score"] = frame["score"].abs()
        frame = frame.groupby(by, sort=False)["score"].max().reset_index()
    frame["what"] = frame["sender"] + " > " + frame["receiver"] + " " + frame["input"]

    def truth(row: Any) -> Truth:
        return known.edge(row.edit, row.sender, row.receiver, row.input, row.position)  # type: ignore[union-attr]

    return _beside(frame, known, truth, part)


def _place(token: str) -> int:
    """``S2`` is token 4 of a window; edges that are patched everywhere have no place."""
    return TOGETHER if token == "all" else 3 * (int(token[1:]) - 1) + "RSA".index(token[0])


def _beside(
    mean: pd.DataFrame,
    known: Known | None,
    truth: Callable[[Any], Truth],
    part: Callable[[str], str],
) -> pd.DataFrame:
    """Answers with labels; of a negative nothing may be found."""
    told = [truth(row) if known else Truth(0, None) for row in mean.itertuples()]
    return mean.assign(
        part=mean["edit"].map(part),
        label=np.array([t.label for t in told], dtype=float),
        expected=np.array([t.rho for t in told], dtype=float),
    )


def _tokens(table: pd.DataFrame) -> int:
    return int(table["position"].max()) + 1 if len(table) else 0


def _state_or_reward_to_go(edit: str) -> str:
    return "reward_to_go" if FLIPS.get(edit) == "reward_to_go" else "state"


# --- what the decision needs, and what writes it -----------------------------------------------------------


def ablation(subject: Subject) -> Iterator[pd.DataFrame]:
    """C1: the share of the logit difference for which each node is needed, by method."""
    if subject.wrong is Wrong.reward_to_go:
        return  # what a decision needs does not say whether it heeds reward-to-go
    table = subject.table("ranking")
    table = table[table["kind"] != "neuron"]
    score = table["change"].abs() / subject.size("ablation/ld")
    labels = [_needed(subject.circuit, r.layer, r.kind, r.unit) for r in table.itertuples()]
    yield rows(table["name"], score.where(table["needed"], 0.0), labels, part=table["method"])


def _needed(circuit: Circuit | None, layer: int, kind: str, unit: int) -> int | None:
    if circuit is None:
        return 0
    if circuit.variant.get("backup_head"):
        # The backup speaks when the main head is silent, so that neither is needed: see the test of it.
        if kind in ("head", "attention") and (layer in (1, 2)):
            return 0 if kind == "head" and unit else None
        if kind == "mlp" and layer == 1:
            return None  # it tells the backup head whether the main one spoke
    if kind == "mlp" and not circuit.neurons:
        return None
    heads = {head for at, head in circuit.heads() if at == layer}
    if kind == "head":
        return int(unit in heads)
    if kind == "attention":
        return int(bool(heads))
    return int(any(n.hook == f"blocks.{layer}.hook_mlp_out" for n in circuit.nodes))


def attribution(subject: Subject) -> Iterator[pd.DataFrame]:
    """A2: the share of the logit difference that each component writes.

    Its control, random directions, is one of the largest component: in a negative nothing is found if that
    is not beyond it.
    """
    if subject.wrong is Wrong.reward_to_go:
        return
    table = subject.table("ranking")
    score = table["support"] / subject.size("attribution/ld")
    if subject.circuit is None and not subject.headline("attribution/established"):
        score = 0 * score
    labels = [_writes(subject.circuit, name) for name in table["component"]]
    yield rows(table["component"], score, labels)


def _writes(circuit: Circuit | None, component: str) -> int | None:
    """Whether a component has an edge to the logits; None where the model leaves it open."""
    if circuit is None:
        return 0
    writers = {name_of(e.sender).replace(" H", "H") for e in circuit.edges if e.input == "logits"}
    writers = {w.replace(" MLP", "").replace("L", "MLP") if "MLP" in w else w for w in writers}
    if component in writers:
        return 1 if circuit.neurons else None
    return 0


def attention(subject: Subject) -> Iterator[pd.DataFrame]:
    """A1: where the circuit's heads look from the decision. Other heads may look anywhere."""
    if subject.circuit is None:
        return
    table = subject.table("maps")
    last = table["query_at"].max()
    mean = table[table["query_at"] == last].groupby(["layer", "head", "key_at"]).attention.mean()
    known = Known(subject.circuit, (int(last) + 2) // 3)
    for (layer, head), places in known.carriers().items():
        mine = mean[layer, head]
        label = [1 if key in places else 0 for key in mine.index]
        # It has to choose among tokens, not to look at all that are as good.
        found = rows(f"L{layer} H{head}", mine.to_numpy(), label, position=mine.index)
        yield found.assign(part="where").assign(score=mine.to_numpy())


def congruence(subject: Subject) -> Iterator[pd.DataFrame]:
    """W3: which neurons write the turn; sizes as shares of the largest."""
    if subject.circuit is None or not subject.circuit.neurons:
        return
    table = subject.table("congruence")
    table = table[(table["model"] == "trained") & (table["weights"] == "raw")]
    size = table.pivot_table(index=["layer", "neuron"], columns="action", values="congruence")
    score = (size["left"] - size["right"]).abs()
    true = {(n.layer, n.neuron) for n in subject.circuit.neurons}
    names = [f"L{layer}N{neuron}" for layer, neuron in score.index.to_list()]
    yield rows(names, (score / score.max()).to_numpy(), [int(i in true) for i in score.index])


def neurons(subject: Subject) -> Iterator[pd.DataFrame]:
    """A4: which neurons are shown, and whether each one is said to fire where it does."""
    if subject.circuit is None or not subject.circuit.neurons:
        return
    table = subject.table("neurons")
    table = table[table["model"] == "trained"]
    true = {(n.layer, n.neuron): _combination(n) for n in subject.circuit.neurons}
    place = list(zip(table["layer"], table["neuron"], strict=True))
    score = table["score"] / table["score"].max()
    yield rows(table["name"], score, [int(at in true) for at in place])
    mine = table[[at in true for at in place]]
    said = [
        float((r.fact, r.peak) == ("decision", true[r.layer, r.neuron])) for r in mine.itertuples()
    ]
    said += [0.0] * (len(true) - len(mine))  # those that are not shown
    names = [*mine["name"], *["not shown"] * (len(true) - len(mine))]
    yield rows(names, said, np.ones(len(said)), part="fires at")


def _combination(neuron: Neuron) -> str:
    """As the dashboard calls the decision: ``key/left, RTG high``; the matching object is on that side."""
    side = "left" if neuron.instruction * neuron.target > 0 else "right"
    instruction = "key" if neuron.instruction > 0 else "ball"
    return f"{instruction}/{side}, RTG {'high' if neuron.high > 0 else 'low'}"


def lens(subject: Subject) -> Iterator[pd.DataFrame]:
    """A3: the point at which the prediction forms: behind the deciding MLP."""
    if subject.circuit is None or not subject.circuit.neurons:
        return
    points = subject.table("points").drop_duplicates("order").sort_values("order")
    formed = subject.headline("lens/formed_at")
    layer = subject.circuit.neurons[0].layer
    label = [int(order == 2 * layer + 2) for order in points["order"]]
    yield rows(points["point"], [float(order == formed) for order in points["order"]], label)


def psychology(subject: Subject) -> Iterator[pd.DataFrame]:
    """B2: decision squares, by divergence of policies in units that put its threshold at ours."""
    if subject.wrong is Wrong.reward_to_go:
        return
    table = subject.table("divergence")
    table = table[(table["model"] == "trained") & (table["target"] == subject.stage.high)]
    before = table[table["before_turn"]]
    decisive = before.loc[before["steps"] == subject.stage.env.decision_step, ["x", "y"]]
    true = set(decisive.itertuples(index=False, name=None)) if subject.circuit else set()
    cells = table.groupby(["x", "y"]).divergence.max()
    score = cells / subject.stage.threshold * subject.positive
    yield rows([f"{x},{y}" for x, y in cells.index], score, [int(c in true) for c in cells.index])


def rows(
    what: Any, score: Any, label: Any, *, part: Any = "", position: Any = TOGETHER
) -> pd.DataFrame:
    """Answers that are no patches."""
    found = pd.DataFrame({"score": np.asarray(score, dtype=float)})
    return found.assign(
        what=np.asarray(what),
        part=np.asarray(part),
        edit="",
        position=np.asarray(position),
        label=np.array(label, dtype=float),
        expected=np.nan,
    )


ADAPTERS: dict[str, Callable[[Subject], Iterator[pd.DataFrame]]] = {
    f.__name__: f
    for f in (
        activation_patching,
        attribution_patching,
        path_patching,
        smallest_circuit,
        ablation,
        attribution,
        attention,
        congruence,
        neurons,
        lens,
        psychology,
    )
}
