"""What the weights of heads say without input: what they ask for, what they write, how they compose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from dtx.analysis.circuits.compute import SILENT
from dtx.analysis.circuits.static import (
    contents,
    directions,
    distributions,
    outputs_by_kind,
    scores_by_kind,
)
from dtx.analysis.circuits.weights import composition, ov, singular, written
from dtx.analysis.core.channels import channel_names
from dtx.app.moment import Moment, folded
from dtx.app.panels import ONCE, WORLD, choice, number
from dtx.app.weights import CELLS, folding_check, on_view, taught, untrained
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.names import head_name
from dtx.env.actions import ACTIONS
from dtx.errors import UserError
from dtx.statistics import effective_rank

TITLE = "Circuits of heads"
WHEN = ONCE
NEEDS = (WORLD,)
CONTROL = "One untrained model of the same shape, by the same function."
SOURCE = "dtx.analysis.circuits.weights.composition"
DOC = "gallery.md#circuits"
FIRST = False
SIZE = "wide"
STATES = 500
"""States of the training data whose embeddings stand for those of a kind."""
SCORES, OUTPUTS, ON_VIEW = "queries and keys", "outputs", "outputs on the view"
COMPOSITION, VALUES, VECTORS = "composition", "singular values", "singular vectors"
PARAMETERS = "parameters"


@dataclass(frozen=True)
class Parameters:
    """Attributes: see the help of each."""

    show: str = choice(
        SCORES, (SCORES, OUTPUTS, ON_VIEW, COMPOSITION, VALUES, VECTORS, PARAMETERS),
        "queries and keys: which kind of token asks for which; outputs: what attending to a kind of token "
        "changes in the logits; composition: what of an earlier head's output a later one reads",
    )  # fmt: skip
    layer: int = number(
        0, 0, 63, "Layer of the head, of outputs on the view and of singular vectors"
    )
    head: int = number(0, 0, 63, "Number of the head, of the same")
    action: str = choice("left", ACTIONS, "Logit, of outputs on the view")
    reads_as: str = choice("Q", ("Q", "K", "V"), "Input of the later head, of composition")
    circuit: str = choice("OV", ("OV", "QK"), "Matrix, of singular vectors")
    rank: int = number(1, 1, 64, "Which singular vector; the first has the largest value")


def compute(moment: Moment, parameters: Parameters) -> dict[str, Any]:
    """What ``show`` asks for, of folded weights; ``untrained``: one number of the control, found alike.

    Returns:
        ``show``, ``heads`` (l * h names), ``written`` (l * h): norm of OV over its mean, and

        - queries and keys: ``pairs`` (names), ``value`` (l * h, p);
        - outputs: ``kinds``, ``actions``, ``value`` (l * h, k, a);
        - outputs on the view: ``head``, ``action``, ``blocks`` (channels), ``maps`` (b, 7, 7) by row and
          column, ``beside``: values of actions and reward-to-go by name;
        - composition: ``sources``, ``targets``, ``value`` (s, t), NaN where there is none;
        - singular values: ``QK``, ``OV`` (l * h, r), ``ranks`` (effective, by circuit);
        - singular vectors: ``head``, ``circuit``, ``values`` (r), ``rank``, ``left`` and ``right``: what they
          read or write, each ``blocks``, ``maps``, and by name ``beside``;
        - parameters: columns of a table, ``untrained``: the spread of each.

    Raises:
        UserError: The encoder is convolutional, or the model has no such head or action.
    """
    cfg, twin = moment.cfg, folded(moment.model).folded
    data = {
        "show": parameters.show,
        "heads": [head_name(i, h) for i in range(cfg.n_layers) for h in range(cfg.n_heads)],
        "written": written(twin).flatten(),
        "check": folding_check(moment),
    }
    return data | _SHOWN[parameters.show](moment, parameters, twin)


def _scores(
    moment: Moment, parameters: Parameters, twin: DecisionTransformerModel
) -> dict[str, Any]:
    own, control = (
        scores_by_kind(each, _contents(moment, each)) for each in (twin, untrained(moment).folded)
    )
    kinds = list(_contents(moment, twin))
    return {
        "pairs": [f"{query} asks for {key}" for query in kinds for key in kinds],
        "value": own.flatten(2).flatten(0, 1),
        "untrained": float(control.abs().max()),
        "states": _states(moment)[1],
    }


def _outputs(
    moment: Moment, parameters: Parameters, twin: DecisionTransformerModel
) -> dict[str, Any]:
    own, control = (
        outputs_by_kind(each, _contents(moment, each)) for each in (twin, untrained(moment).folded)
    )
    return {
        "kinds": list(_contents(moment, twin)),
        "actions": list(moment.actions[: moment.cfg.n_actions]),
        "value": own.flatten(0, 1),
        "untrained": float(control.max()),
        "states": _states(moment)[1],
    }


def _on_view(
    moment: Moment, parameters: Parameters, twin: DecisionTransformerModel
) -> dict[str, Any]:
    layer, head = _place(moment, parameters)
    if parameters.action not in moment.actions[: moment.cfg.n_actions]:
        raise UserError(f"circuits.action: the model has no action {parameters.action}")
    channel_c = taught(moment)
    own, control = (
        _of_head(each, channel_c, parameters, layer, head)
        for each in (twin, untrained(moment).folded)
    )
    value_c = own.to_numpy()[: len(channel_c)]
    beside = own.iloc[len(channel_c) :]
    return {
        "head": head_name(layer, head),
        "action": parameters.action,
        **_view(value_c, channel_c),
        "beside": {str(name): float(value) for name, value in beside.items()},
        "untrained": float(control.iloc[: len(channel_c)].abs().max()),
    }


def _of_head(
    twin: DecisionTransformerModel,
    channel_c: np.ndarray,
    parameters: Parameters,
    layer: int,
    head: int,
) -> pd.Series:
    table = ov(twin, channel_c)
    table = table[(table.layer == layer) & (table["head"] == head)]
    return table[table.action == parameters.action].set_index("token").value


def _composition(
    moment: Moment, parameters: Parameters, twin: DecisionTransformerModel
) -> dict[str, Any]:
    if moment.cfg.n_layers < 2:
        raise UserError("circuits: heads of one layer do not compose")
    own, control = composition(twin), composition(untrained(moment).folded)
    rows = own[own.kind == parameters.reads_as]
    grid = rows.pivot(index="source", columns="target", values="score")
    sources, targets = (list(dict.fromkeys(rows[name])) for name in ("source", "target"))
    heard = control[(control.written >= SILENT) & (control.kind == parameters.reads_as)]
    return {
        "sources": sources,
        "targets": targets,
        "value": grid.loc[sources, targets].to_numpy(),
        "reads_as": parameters.reads_as,
        "untrained": float(heard.score.max()),
    }


def _values(
    moment: Moment, parameters: Parameters, twin: DecisionTransformerModel
) -> dict[str, Any]:
    own, control = singular(twin), singular(untrained(moment).folded)
    found: dict[str, Any] = {"ranks": {}, "untrained": {}}
    for circuit in ("QK", "OV"):
        rows = own[own.circuit == circuit]
        found[circuit] = rows.value.to_numpy().reshape(-1, moment.cfg.d_head)
        found["ranks"][circuit] = _ranks(own, circuit)
        found["untrained"][circuit] = float(np.mean(_ranks(control, circuit)))
    return found


def _ranks(table: pd.DataFrame, circuit: str) -> list[float]:
    """Effective rank of each head."""
    heads = table[table.circuit == circuit].groupby(["layer", "head"], sort=True).value
    return [float(rank) for rank in heads.apply(effective_rank)]


def _vectors(
    moment: Moment, parameters: Parameters, twin: DecisionTransformerModel
) -> dict[str, Any]:
    layer, head = _place(moment, parameters)
    found = directions(twin, parameters.circuit, layer, head)
    control = directions(untrained(moment).folded, parameters.circuit, layer, head)
    at = min(parameters.rank, len(found.value_r)) - 1
    right_is_written = parameters.circuit == "OV"
    return {
        "head": head_name(layer, head),
        "circuit": parameters.circuit,
        "values": found.value_r,
        "rank": at + 1,
        "left": _read(moment, twin, found.left_rd[at]),
        "right": _written(moment, twin, found.right_rd[at])
        if right_is_written
        else _read(moment, twin, found.right_rd[at]),
        "untrained": float(control.value_r[at]),
    }


def _read(moment: Moment, twin: DecisionTransformerModel, vector_d: Tensor) -> dict[str, Any]:
    """Dot products of contents with a vector that reads them."""
    channel_c, embed = taught(moment), twin.embed
    beside = dict(
        zip(
            _action_names(moment),
            (embed.W_A[: moment.cfg.n_actions] @ vector_d).tolist(),
            strict=True,
        )
    )
    if embed.W_R is not None:
        beside["reward-to-go, per unit"] = float(embed.W_R[0] @ vector_d)
    return _view((embed.W_S @ vector_d).numpy()[channel_c], channel_c) | {"beside": beside}


def _written(moment: Moment, twin: DecisionTransformerModel, vector_d: Tensor) -> dict[str, Any]:
    """What a vector that is written adds to the logits, before the final scale."""
    logits = (vector_d @ twin.W_U).tolist()
    names = moment.actions[: moment.cfg.n_actions]
    return {
        "blocks": [],
        "maps": np.zeros((0, 7, 7)),
        "beside": dict(zip(names, logits, strict=True)),
    }


def _parameters(
    moment: Moment, parameters: Parameters, twin: DecisionTransformerModel
) -> dict[str, Any]:
    own, control = distributions(moment.model), distributions(untrained(moment).exact)
    spread = control.set_index("name").spread.reindex(own.name)
    return {**own.to_dict("list"), "untrained": spread.to_numpy()}


_SHOWN = {
    SCORES: _scores,
    OUTPUTS: _outputs,
    ON_VIEW: _on_view,
    COMPOSITION: _composition,
    VALUES: _values,
    VECTORS: _vectors,
    PARAMETERS: _parameters,
}


def _states(moment: Moment) -> tuple[np.ndarray, str]:
    """Observations that stand for those that the model sees, and where they are from."""
    if moment.data is None:
        return np.stack(moment.original.run.observations), "of this run"
    return moment.data.observations[:STATES], "of the training data"


def _contents(moment: Moment, twin: DecisionTransformerModel) -> dict[str, Tensor]:
    returns = None if moment.data is None else moment.data.returns
    ends = (0.0, 1.0) if returns is None else (returns.lowest, returns.highest)
    return contents(twin, _states(moment)[0], ends)


def _place(moment: Moment, parameters: Parameters) -> tuple[int, int]:
    layer, head, cfg = parameters.layer, parameters.head, moment.cfg
    if layer >= cfg.n_layers or head >= cfg.n_heads:
        raise UserError(
            f"circuits: the model has no head {head_name(layer, head)}; it has layers 0..{cfg.n_layers - 1} "
            f"of {cfg.n_heads} heads"
        )
    return layer, head


def _view(value_c: np.ndarray, channel_c: np.ndarray) -> dict[str, Any]:
    there = sorted(set((channel_c // CELLS).tolist()))
    return {
        "blocks": [channel_names()[i] for i in there],
        "maps": on_view(value_c, channel_c)[there],
    }


def _action_names(moment: Moment) -> list[str]:
    return [f"action {name}" for name in moment.actions[: moment.cfg.n_actions]]
