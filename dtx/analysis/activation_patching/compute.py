"""The sweep of activation patching: many patches on the batch axis, from the patched node on.

A patch of the stream or of what is added to it changes one token until the next layer, and nothing at all
where both runs agree; patches inside attention run their whole block.

Shape suffixes: b rows of a forward pass (one patch of one pair each), p pairs, n tokens, d model, h head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.analysis.activation_patching.claims import strongest
from dtx.analysis.core.hooks import HOOKS
from dtx.analysis.core.pair_runs import PairRuns, mean_rho
from dtx.analysis.core.rest_of_run import RestOfRun, needed
from dtx.dt.forward import run_from
from dtx.pairs.pair_set import PairBatch, PairSet
from dtx.training.threads import one_thread

if TYPE_CHECKING:
    from dtx.analysis.activation_patching import ActivationPatching
    from dtx.dt.model import DecisionTransformerModel

HEADS = ("z", "q", "k", "v", "pattern")
"""Nodes that are patched for each head apart."""
INSIDE = ("q", "k", "v", "pattern")
"""Nodes inside attention: what they change at other tokens needs the block."""
ROUNDING = 1e-6
"""A node is the same in both runs up to this share of its largest number."""


@dataclass
class Found:
    """What the sweep gave.

    Attributes:
        tables: ``patches`` (one row a patch of a pair), ``effects`` (means over pairs with intervals),
            ``sets`` (several embedded tokens at once), ``runs`` (one row a pair: its logit differences).
        edits: In their order. tokens: Names of the tokens of each number of states.
        identity_error: Largest deviation from 1 for everything, 0 for nothing, 0 for unchanged embeddings.
        null_change: Largest change of LD by a patch within a null pair.
    """

    tables: dict[str, pd.DataFrame]
    edits: list[str]
    tokens: list[str]
    identity_error: float
    null_change: float


@torch.inference_mode()
def measure(stage: ActivationPatching, model: DecisionTransformerModel, pairs: PairSet) -> Found:
    """Patch everything that the stage asks for."""
    parts: dict[str, list[pd.DataFrame]] = {"patches": [], "sets": [], "runs": []}
    tokens: list[str] = []
    with one_thread():
        for batch in pairs.batches(model):
            for name, table in _Sweep(stage, model, batch, pairs.min_ld_gap).tables().items():
                parts[name].append(table)
            tokens = max(tokens, batch.names, key=len)
    tables = {name: pd.concat(found, ignore_index=True) for name, found in parts.items()}
    tables["effects"] = effects(tables["patches"], stage.resamples, stage.seed)
    identities = tables["sets"]
    identities = identities[identities["expected"].notna() & identities["rho"].notna()]
    errors = (identities["rho"] - identities["expected"]).abs()
    null = [tables[name] for name in ("patches", "sets")]
    changes = [table.loc[table["kind"] == "null", "change"].abs().max() for table in null]
    return Found(tables, pairs.about["edits"], tokens, float(errors.max()), float(max(changes)))


class _Sweep:
    """The patches of one batch of pairs."""

    def __init__(
        self,
        stage: ActivationPatching,
        model: DecisionTransformerModel,
        batch: PairBatch,
        gap: float,
    ):
        self.stage, self.model, self.batch = stage, model, batch
        layers, kinds = range(model.cfg.n_layers), [node.value for node in stage.nodes]
        wanted = {
            f"blocks.{layer}.{HOOKS[kind]}" for layer in layers for kind in {*kinds, "resid_pre"}
        }
        wanted |= {f"blocks.{layer}.hook_resid_{x}" for layer in layers for x in ("mid", "post")}
        wanted |= needed(model.cfg.n_layers)
        self.runs = PairRuns(model, batch, stage.direction, gap, wanted)
        self.rest = RestOfRun(model, self.runs)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Tables ``patches``, ``sets`` and ``runs`` of these pairs."""
        patches = [self._node(layer, kind, head) for layer, kind, head in self._nodes()]
        return {
            "patches": pd.concat(patches, ignore_index=True),
            "sets": self._sets(),
            "runs": self.runs.table(),
        }

    def _nodes(self) -> Iterator[tuple[int, str, int | None]]:
        for layer in range(self.model.cfg.n_layers):
            for kind in (node.value for node in self.stage.nodes):
                heads = range(self.model.cfg.n_heads) if kind in HEADS else [None]
                yield from ((layer, kind, head) for head in heads)

    def _node(self, layer: int, kind: str, head: int | None) -> pd.DataFrame:
        """Patch one node at every token of every pair."""
        p, n = self.batch.changed.shape
        row, token = np.divmod(np.arange(p * n), n)
        mask = torch.zeros(p * n, n, dtype=torch.bool)
        mask[torch.arange(p * n), torch.from_numpy(token)] = True
        inside = kind in INSIDE
        ld = (
            self._patched(layer, kind, head, row, mask)
            if inside
            else self._added(layer, kind, head)
        )
        table = self.runs.result(row, ld)
        table["layer"], table["node"], table["head"] = layer, kind, -1 if head is None else head
        table["name"] = name_of(layer, kind, head)
        table["position"], table["token"] = token, np.array(self.batch.names)[token]
        return table

    def _added(self, layer: int, kind: str, head: int | None) -> np.ndarray:
        """LD (p * n,) with the stream, or what a component adds to it, patched at each token of each pair."""
        name = f"blocks.{layer}.{HOOKS[kind]}"
        source, base = self.runs.source[name], self.runs.base[name]
        if head is not None:
            source, base = source[:, :, head], base[:, :, head]
        change = source - base
        scale = source.abs().max() + base.abs().max()
        live_pn = change.abs().amax(-1) > ROUNDING * scale
        live_pn |= torch.from_numpy(self.batch.kind("null"))[:, None]  # a control only if it is run
        n = live_pn.shape[1]
        if kind != "resid_pre" and layer == self.rest.last:
            live_pn[:, :-1] = False  # read at the last token alone
        block: Any = self.model.blocks[layer]
        if head is not None:
            change = change @ block.attn.W_O[head]
        ld = np.repeat(self.runs.base_ld[:, None], n, 1)
        for m in range(n):
            for row in torch.nonzero(live_pn[:, m]).flatten().split(self.stage.windows):
                if not len(row):
                    continue
                resid_b1d, to = change[row, m : m + 1], layer + 1
                if kind == "resid_pre":
                    resid_b1d, to = source[row, m : m + 1], layer
                elif kind == "resid_post":
                    resid_b1d = source[row, m : m + 1]
                elif kind == "mlp_out":
                    post = self.runs.base[f"blocks.{layer}.hook_resid_post"]
                    resid_b1d = post[row, m : m + 1] + resid_b1d
                else:
                    mid = self.runs.base[f"blocks.{layer}.hook_resid_mid"][row, m : m + 1]
                    mid = mid + resid_b1d
                    resid_b1d = mid + block.mlp(block.ln2(mid))
                ld[row.numpy(), m] = self.rest.ld(to, row, m, resid_b1d).double().numpy()
        return ld.ravel()

    def _sets(self) -> pd.DataFrame:
        """Embedded tokens patched together: everything, nothing, unchanged, a kind, a kind but one."""
        names, changed = self.batch.names, self.batch.changed
        sets: list[tuple[str, Tensor, float | None]] = [
            ("everything", torch.ones_like(changed), 1.0),
            ("nothing", torch.zeros_like(changed), 0.0),
            ("unchanged", ~changed, 0.0),
        ]
        for letter in "RSA":
            mine = torch.tensor([name[0] == letter for name in names])
            sets.append((letter, mine.expand_as(changed), None))
            for place in torch.nonzero(mine & changed.any(0)).flatten().tolist():
                rest = mine.clone()
                rest[place] = False
                sets.append((f"{letter} without {names[place]}", rest.expand_as(changed), None))
        row = np.arange(len(self.batch))
        tables = []
        for name, mask, expected in sets:
            table = self.runs.result(row, self._patched(0, "resid_pre", None, row, mask))
            donor = self.batch.kind("shuffled_donor")  # its everything is another world, not 1
            table["expected"] = np.where(donor & (name == "everything"), np.nan, expected)
            tables.append(table.assign(set=name))
        return pd.concat(tables, ignore_index=True)

    def _patched(
        self, layer: int, kind: str, head: int | None, row: np.ndarray, mask: Tensor
    ) -> np.ndarray:
        """LD (b,) of pairs ``row`` (b,) with a node patched at the tokens ``mask`` (b, n)."""
        found = []
        for begin in range(0, len(row), self.stage.windows):
            which = torch.from_numpy(row[begin : begin + self.stage.windows])
            logits = self._forward(
                layer, kind, head, which, mask[begin : begin + self.stage.windows]
            )
            pos, neg = self.batch.positive[which], self.batch.negative[which]
            place = torch.arange(len(which))
            found.append((logits[place, pos] - logits[place, neg]).double().numpy())
        return np.concatenate(found)

    def _forward(
        self, layer: int, kind: str, head: int | None, which: Tensor, mask_bn: Tensor
    ) -> Tensor:
        """Logits (b, a) at the last token; what lies before the layer is the base's and not computed."""
        model, name = self.model, f"blocks.{layer}.{HOOKS[kind]}"
        source = self.runs.source[name][which]
        resid_bnd = self.runs.base[f"blocks.{layer}.hook_resid_pre"][which]

        def patch(value: Tensor, hook: Any = None) -> Tensor:
            if head is None:
                return torch.where(mask_bn.unsqueeze(-1), source, value)
            value = value.clone()
            axis = 1 if kind == "pattern" else 2
            mine, new = value.select(axis, head), source.select(axis, head)
            mine.copy_(torch.where(mask_bn.unsqueeze(-1), new, mine))
            return value

        if kind == "resid_pre":
            return run_from(model, layer, patch(resid_bnd))
        return run_from(model, layer, resid_bnd, [(name, patch)])


def name_of(layer: int, kind: str, head: int | None) -> str:
    """``resid_pre 0``, ``L0 H1 z``, ``L1 mlp_out``."""
    if kind.startswith("resid"):
        return f"L{layer} {kind}"
    return f"L{layer} {kind}" if head is None else f"L{layer} H{head} {kind}"


def effects(patches: pd.DataFrame, resamples: int, seed: int) -> pd.DataFrame:
    """Mean rho over pairs with a bootstrap interval, by edit, control, reward-to-go, node and token."""
    by = ["edit", "kind", "reward_to_go", "layer", "node", "head", "name", "position", "token"]
    return mean_rho(patches, by, resamples, seed)


def headline(stage: ActivationPatching, found: Found) -> dict[str, float | None]:
    """Numbers at the top: identities, and for each edit the strongest component and its control."""
    numbers: dict[str, float | None] = {
        "patching/identity_error": found.identity_error,
        "patching/null_change": found.null_change,
    }
    runs, table = found.tables["runs"], found.tables["effects"]
    edited = runs[runs["kind"] == "edit"]
    distinct = edited.drop_duplicates(["ld_clean", "ld_corrupt", "edit"])
    numbers["patching/distinct_inputs"] = len(distinct)
    numbers["patching/n_missing"] = float((~edited["measurable"]).sum())
    for edit in found.edits:
        best = strongest(table, edit)
        numbers[f"patching/{edit}_best_rho"] = best.rho if best else None
        numbers[f"patching/{edit}_control_rho"] = best.control if best else None
    return numbers
