"""What a store holds on a model: its analyses, their reports, and what they say of single nodes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dtx.analysis.core.result import Result
from dtx.app.moment import Moment
from dtx.dt.names import head_name, neuron_name, part_of
from dtx.errors import UserError
from dtx.exchange.lookup import readers
from dtx.exchange.recorded_result import recorded_result
from dtx.store.store import Store

if TYPE_CHECKING:
    from dtx.app.models import Chosen

REPORT = "report"
COLUMNS = ["node", "analysis", "where", "what", "value", "low", "high", "n", "interval"]


@dataclass(frozen=True)
class Found:
    """An analysis of a model.

    Attributes:
        label: Of the artefact. name: Of the analysis. field: In which it reads the model.
        record: What made it. folder: Its files.
    """

    label: str
    name: str
    field: str
    record: Mapping[str, Any]
    folder: Path

    @property
    def result(self) -> Result | None:
        """What it found; None if it is no analysis of dtx, or cannot be read."""
        return _result(self.folder, str(self.record.get("class", "")), self.record.get("finished"))

    @property
    def checkpoint(self) -> int | None:
        """Step of training that it looked at; None for the last."""
        return self.record.get("config", {}).get("checkpoint")

    @property
    def figures(self) -> list[str]:
        """Names of the files in its folder ``figures``, pages first."""
        names = [path.name for path in (self.folder / "figures").glob("*") if path.is_file()]
        return sorted(names, key=lambda name: (not name.endswith(".html"), name))


def where(moment: Moment) -> tuple[Store, Chosen]:
    """The store of a model, and the model as chosen.

    Raises:
        UserError: It is in none.
    """
    if moment.store is None or moment.chosen is None:
        raise UserError("the model is in no store, so nothing is kept on it")
    if not (moment.store.root / moment.chosen.entry.label).is_dir():
        raise UserError("the model is not in the store, so nothing is kept on it")
    return moment.store, moment.chosen


def analyses_of(moment: Moment) -> list[Found]:
    """The analyses of a model in the store, oldest first; of all its checkpoints.

    Raises:
        UserError: The model is in no store.
    """
    store, chosen = where(moment)
    return [found for found in _readers(store, chosen.entry.label)[0] if found.name != REPORT]


def reports_of(moment: Moment) -> list[Found]:
    """The reports that tell of them.

    Raises:
        UserError: The model is in no store.
    """
    store, chosen = where(moment)
    return list(_readers(store, chosen.entry.label)[1])


def _readers(store: Store, label: str) -> tuple[tuple[Found, ...], tuple[Found, ...]]:
    return _read(store.root, store.root.stat().st_mtime_ns, label)


@functools.lru_cache(64)
def _read(root: Path, mark: int, label: str) -> tuple[tuple[Found, ...], tuple[Found, ...]]:
    """Analyses of a model, and reports on these; as long as the store does not change."""
    store = Store(root)
    first = _found(root, readers(store, {label}, ("analysis",)))
    second = readers(store, {found.label for found in first}, ("analysis",))
    reports = {each.label: each for each in _found(root, second) if each.name == REPORT}
    return tuple(first), tuple(reports.values())


def _found(root: Path, rows: Iterable[tuple[str, str, str, Mapping[str, Any]]]) -> list[Found]:
    return [
        Found(label, str(record.get("stage", "")), field, record, root / label)
        for label, field, _, record in rows
    ]


@functools.lru_cache(256)
def _result(folder: Path, made_by: str, finished: str | None) -> Result | None:
    """Read once; ``finished`` tells an artefact from one that was computed again."""
    try:
        return recorded_result(folder, {"class": made_by})
    except (UserError, OSError, ValueError, KeyError, TypeError):
        return None


def node_effects(analyses: Iterable[Found]) -> pd.DataFrame:
    """What the analyses say of single nodes, one row a node, analysis and condition.

    Returns:
        Columns node (``L1H3``, ``L1 MLP``, ``L1N5``), analysis, where (condition), what (the number's
        meaning), value, low, high (missing without an interval), n, interval. Where an analysis has several
        tokens, the one with the largest effect. Analyses without established results are left out.
    """
    tables = []
    for found in analyses:
        read, result = _TABLES.get(found.name), found.result
        if read is None or result is None or not result.established:
            continue
        try:
            rows = read(result.tables)
        except (KeyError, ValueError, AttributeError, OSError, UserError):
            continue  # a table of an earlier version, or a damaged one
        tables.append(rows.assign(analysis=found.name))
    if not tables:
        return pd.DataFrame(columns=COLUMNS)
    return pd.concat(tables, ignore_index=True).reindex(columns=COLUMNS)


def _ablation(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    table = tables["effects"]
    return _rows(
        [_node(name) for name in table["name"]],
        "ablated (" + table.method + ")" + _at(table.target),
        "change of the logit difference",
        table,
        table.change,
    )


def _patching(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    table = tables["effects"]
    table = table[(table.kind == "edit") & table.node.isin(["z", "attn_out", "mlp_out"])]
    table = table[table.rho.notna()]
    keys = ["edit", "direction", "reward_to_go", "layer", "node", "head"]
    table = table.loc[table.rho.abs().groupby([table[key] for key in keys]).idxmax()]
    names = [
        head_name(layer, head) if node == "z" else f"L{layer} {_OUTPUTS[node]}"
        for layer, node, head in zip(table.layer, table.node, table["head"], strict=True)
    ]
    words = table.edit.str.replace("_", " ") + ", " + table.direction + " at " + table.token
    return _rows(
        names, words + _at(table.reward_to_go), "restored logit difference", table, table.rho
    )


def _attention(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    table = tables["heads"]
    heads = zip(table.layer, table["head"], strict=True)
    return _rows(
        [head_name(*place) for place in heads],
        "attention as at the other reward-to-go" + _at(table.target),
        "total variation of attention",
        table,
        table.total_variation,
    )


def _attribution(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    table = tables["ranking"]
    table = table[table.kind.isin(["head", "mlp"])]
    names = [_node(name) for name in table.component]
    return _rows(
        names,
        "written straight to the logits" + _at(table.target),
        "support of the logit difference",
        table,
        table.support,
    )


def _neurons(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    table = tables["neurons"]
    table = table[table.model == "trained"]
    places = zip(table.layer, table.neuron, strict=True)
    return _rows(
        [neuron_name(*place) for place in places],
        "best single feature: " + table.fact,
        "variance explained by it",
        table,
        table.selectivity,
    )


_OUTPUTS = {"attn_out": "attention", "mlp_out": "MLP"}
_TABLES: dict[str, Callable[[Mapping[str, pd.DataFrame]], pd.DataFrame]] = {
    "ablation": _ablation,
    "activation_patching": _patching,
    "attention": _attention,
    "attribution": _attribution,
    "neurons": _neurons,
}


def _rows(
    names: list[str], words: Any, what: str, table: pd.DataFrame, value: pd.Series
) -> pd.DataFrame:
    beside = table.reindex(columns=["low", "high", "n", "interval"]).reset_index(drop=True)
    columns = {
        "node": names,
        "where": np.asarray(words, object),
        "what": what,
        "value": value.to_numpy(),
    }
    return pd.DataFrame(columns).join(beside)


def _at(target: pd.Series) -> pd.Series:
    """``, RTG 0.892``; empty where there is none."""
    return target.map(lambda x: "" if pd.isna(x) else f", RTG {float(x):g}")


def _node(name: str) -> str:
    """Today's name of a node."""
    part = part_of(name)
    return name if part is None else part.name
