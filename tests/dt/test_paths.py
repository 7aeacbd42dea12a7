"""Edges of a model, and the exact forward pass with any set of them patched."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from dtx.config.compose import build_group
from dtx.dt.model import DecisionTransformerModel, initialise
from dtx.dt.paths import (
    Edge,
    Receiver,
    Sender,
    edges,
    matters,
    output_hooks,
    outputs,
    patched,
    receivers,
    senders,
)
from dtx.dt.rollout import decision_contexts
from tests.dt.toy import TINY

VARIANTS = [
    {},
    {"gated_mlp": True, "act_fn": "relu"},
    {"normalization_type": None},
    {"left_padding": True},
]


def model(**changes) -> DecisionTransformerModel:
    stage = build_group("dt/memory_dt", [*TINY, "dt.windows.context=9", "dt.model.n_ctx=26"])
    cfg = dataclasses.replace(stage.model_config(), **{"left_padding": False, **changes})
    made = DecisionTransformerModel(cfg)
    initialise(made, None, 0.5, 3)
    return made.eval()


class Runs:
    """A clean and a corrupt run of a model, and what patches make of the corrupt one."""

    def __init__(self, **changes):
        self.model = model(**changes)
        low, high = decision_contexts(self.model, build_group("env/memory").decision, (0.0, 5.0))
        # The other layout and another target: every modality differs, and much.
        self.clean, self.corrupt = low, high[torch.tensor([3, 2, 1, 0])]
        with torch.no_grad():
            logits, cache = self.model.run_with_cache(
                self.clean, names_filter=output_hooks(self.model.cfg)
            )
            self.at_clean, self.source = logits[:, -1], outputs(self.model, cache)
            self.at_corrupt = self.model(self.corrupt)[:, -1]
        self.n = self.clean.shape[1]

    def tokens(self, *positions: int) -> Tensor:
        """The same tokens of every window; all of them if none is named."""
        mask = torch.full(self.clean.shape, not positions)
        mask[:, list(positions)] = True
        return mask

    def patched(self, chosen: list[Edge], mask: Tensor) -> Tensor:
        with torch.no_grad():
            return patched(self.model, self.corrupt, self.source, [(e, mask) for e in chosen])

    def node(self, sender: Sender, mask: Tensor) -> Tensor:
        """The node's output itself patched, by an ordinary hook."""
        name = {
            "embed": "blocks.0.hook_resid_pre",
            "mlp": f"blocks.{sender.layer}.hook_mlp_out",
            "head": f"blocks.{sender.layer}.attn.hook_z",
        }[sender.kind]
        with torch.no_grad():
            _, cache = self.model.run_with_cache(self.clean, names_filter=[name])

            def put(value, hook):
                value = value.clone()
                mine = value if sender.head is None else value[:, :, sender.head]
                new = cache[name] if sender.head is None else cache[name][:, :, sender.head]
                mine[mask] = new[mask]
                return value

            return self.model.run_with_hooks(self.corrupt, fwd_hooks=[(name, put)])[:, -1]


@pytest.fixture(scope="module", params=VARIANTS, ids=str)
def runs(request) -> Runs:
    return Runs(**request.param)


def test_edges_are_all_pairs_in_the_order_of_computing():
    cfg = dataclasses.replace(model().cfg, n_layers=3, n_heads=8)
    found = edges(cfg)
    assert len(found) == len(set(found)) == 802
    steps = [edge.receiver.step for edge in found]
    assert steps == sorted(steps)
    assert all(edge.sender.step < edge.receiver.step for edge in found)
    embed = Sender(-1, None, "embed")
    assert sum(edge.sender == embed for edge in found) == len(receivers(cfg)) == 3 * 25 + 1
    # A head reads nothing of its own layer, the layer's MLP reads all its heads.
    assert Edge(Sender(1, 0, "head"), Receiver(1, 3, "q")) not in found
    assert Edge(Sender(1, 0, "head"), Receiver(1, None, "mlp")) in found


def test_every_edge_is_the_source_run_and_none_the_base_run(runs):
    everything = runs.patched(edges(runs.model.cfg), runs.tokens())
    nothing = runs.patched(edges(runs.model.cfg), ~runs.tokens())
    assert (runs.at_clean - runs.at_corrupt).abs().max() > 0.05
    torch.testing.assert_close(everything, runs.at_clean, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(nothing, runs.at_corrupt, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(runs.patched([], runs.tokens()), runs.at_corrupt)


def test_all_edges_of_a_node_are_the_nodes_patch(runs):
    moved = 0
    for sender in senders(runs.model.cfg):
        for mask in (runs.tokens(1), runs.tokens(runs.n - 1), runs.tokens()):
            mine = [edge for edge in edges(runs.model.cfg) if edge.sender == sender]
            expected = runs.node(sender, mask)
            torch.testing.assert_close(runs.patched(mine, mask), expected, atol=2e-5, rtol=1e-5)
            moved += (expected - runs.at_corrupt).abs().max().item() > 0.01
    assert moved >= 4


def test_what_is_no_edge_changes_nothing(runs):
    later = Sender(1, 0, "head")
    for receiver in (Receiver(0, 1, "v"), Receiver(0, None, "mlp"), Receiver(1, 0, "k")):
        edge = Edge(later, receiver)
        assert not edge.exists and edge not in edges(runs.model.cfg)
        torch.testing.assert_close(runs.patched([edge], runs.tokens()), runs.at_corrupt)


def test_edges_that_do_not_matter_change_nothing_and_others_do(runs):
    cfg = runs.model.cfg
    for edge in edges(cfg)[::3]:
        matter = [m for m in range(runs.n) if matters(cfg, edge, m, runs.n)]
        rest = [m for m in range(runs.n) if m not in matter]
        if rest:
            found = runs.patched([edge], runs.tokens(*rest))
            torch.testing.assert_close(found, runs.at_corrupt, atol=2e-5, rtol=1e-5)
    direct = Edge(Sender(0, None, "mlp"), Receiver(cfg.n_layers, None, "logits"))
    assert (runs.patched([direct], runs.tokens()) - runs.at_corrupt).abs().max() > 1e-3


def test_inputs_are_made_apart_only_while_patching(runs):
    runs.patched(edges(runs.model.cfg)[:1], runs.tokens())
    cfg = runs.model.cfg
    assert not cfg.use_split_qkv_input and not cfg.use_hook_mlp_in and not runs.model.has_hooks
