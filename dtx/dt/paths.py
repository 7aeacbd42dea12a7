"""Paths through a model: which component writes to the residual stream, and which one reads it.

An edge goes from a *sender* (the embedding, a head, an MLP) to a *receiver's input* (queries, keys or values
of a head, an MLP, the logits). Patching it at a token changes what this receiver reads of this sender there,
and nothing else that is read directly; what follows from the receiver is computed anew (Wang et al., 2022,
"Interpretability in the Wild"; edges as in Conmy et al., 2023).

Shape suffixes: b window, n token, h head, e head width, d model, a action.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from dtx.dt.names import head_name, mlp_name

if TYPE_CHECKING:
    from torch import Tensor
    from transformer_lens.hook_points import HookPoint

    from dtx.dt.context import Context
    from dtx.dt.model import DecisionTransformerModel
    from dtx.dt.model_config import ModelConfig

EMBEDDED = "blocks.0.hook_resid_pre"
"""What the embedding wrote: modality, time and position together."""


@dataclass(frozen=True)
class Sender:
    """What writes to the residual stream; ``layer`` of the embedding is -1.

    A head writes its share of W_O without the bias, which is the same in every run.
    """

    layer: int
    head: int | None
    kind: Literal["embed", "head", "mlp"]

    @property
    def step(self) -> int:
        """Place in the order of computing; a receiver reads only what has a smaller one."""
        return {"embed": 0, "head": 2 * self.layer + 1, "mlp": 2 * self.layer + 2}[self.kind]

    @property
    def name(self) -> str:
        """``embed``, ``L0H3``, ``L1 MLP``."""
        return "embed" if self.kind == "embed" else _name(self.layer, self.head)


@dataclass(frozen=True)
class Receiver:
    """An input that is read from the residual stream; ``layer`` of the logits is the number of layers."""

    layer: int
    head: int | None
    input: Literal["q", "k", "v", "mlp", "logits"]

    @property
    def step(self) -> int:
        """Place in the order of computing."""
        return 2 * self.layer + (2 if self.input == "mlp" else 1)

    @property
    def name(self) -> str:
        """``L0H3``, ``L1 MLP``, ``logits``; :attr:`input` says which of a head's inputs."""
        return "logits" if self.input == "logits" else _name(self.layer, self.head)


@dataclass(frozen=True)
class Edge:
    """A sender and a receiver's input."""

    sender: Sender
    receiver: Receiver

    @property
    def exists(self) -> bool:
        """Whether the sender comes before the receiver, so that there is anything to read."""
        return self.sender.step < self.receiver.step


def _name(layer: int, head: int | None) -> str:
    return mlp_name(layer) if head is None else head_name(layer, head)


def senders(cfg: ModelConfig) -> list[Sender]:
    """All senders, in the order in which they are computed."""
    every = [Sender(-1, None, "embed")]
    for layer in range(cfg.n_layers):
        every += [Sender(layer, head, "head") for head in range(cfg.n_heads)]
        every.append(Sender(layer, None, "mlp"))
    return every


def receivers(cfg: ModelConfig) -> list[Receiver]:
    """All receivers' inputs, in the order in which they are computed."""
    every = []
    for layer in range(cfg.n_layers):
        every += [Receiver(layer, head, x) for x in ("q", "k", "v") for head in range(cfg.n_heads)]
        every.append(Receiver(layer, None, "mlp"))
    return [*every, Receiver(cfg.n_layers, None, "logits")]


def edges(cfg: ModelConfig) -> list[Edge]:
    """All edges, by receiver in the order of computing, then by sender: 802 with 3 layers of 8 heads."""
    pairs = (Edge(s, r) for r in receivers(cfg) for s in senders(cfg))
    return [edge for edge in pairs if edge.exists]


def matters(cfg: ModelConfig, edge: Edge, position: int, n: int) -> bool:
    """Whether an edge at a token can reach the last token's logits at all.

    In the last layer the queries, the MLP and the logits are read at the last token alone.
    """
    r = edge.receiver
    return position == n - 1 or r.input in ("k", "v") or r.layer < cfg.n_layers - 1


def output_hooks(cfg: ModelConfig) -> list[str]:
    """The activations from which :func:`outputs` gives what every sender wrote."""
    layers = range(cfg.n_layers)
    return [
        EMBEDDED,
        *(f"blocks.{layer}.attn.hook_z" for layer in layers),
        *(f"blocks.{layer}.hook_mlp_out" for layer in layers),
    ]


def output(model: DecisionTransformerModel, cache: Mapping[str, Tensor], sender: Sender) -> Tensor:
    """What a sender wrote at every token (b, n, d), from activations by hook name."""
    if sender.kind == "embed":
        return cache[EMBEDDED]
    if sender.kind == "mlp":
        return cache[f"blocks.{sender.layer}.hook_mlp_out"]
    z_bne = cache[f"blocks.{sender.layer}.attn.hook_z"][:, :, sender.head]
    block: Any = model.blocks[sender.layer]
    return z_bne @ block.attn.W_O[sender.head]


def outputs(model: DecisionTransformerModel, cache: Mapping[str, Tensor]) -> dict[Sender, Tensor]:
    """What every sender wrote (b, n, d), from a cache with :func:`output_hooks`."""
    return {sender: output(model, cache, sender) for sender in senders(model.cfg)}


@contextmanager
def split_inputs(model: DecisionTransformerModel) -> Iterator[None]:
    """The model makes an input of its own for each head's q, k and v and for each MLP."""
    cfg = model.cfg
    before = cfg.use_split_qkv_input, cfg.use_hook_mlp_in
    cfg.use_split_qkv_input = cfg.use_hook_mlp_in = True
    try:
        yield
    finally:
        cfg.use_split_qkv_input, cfg.use_hook_mlp_in = before


def patched(
    model: DecisionTransformerModel,
    context: Context,
    source: Mapping[Sender, Tensor],
    patches: Sequence[tuple[Edge, Tensor]],
) -> Tensor:
    """Action logits (b, a) at the last state with any set of edges patched: the exact definition.

    Each input of a receiver at a token is the stream of the run under way plus, for each patched edge,
    what the sender wrote in the source run minus what it has written in this one. All edges together
    therefore give the source run, and all edges from one sender at a token its patch there.

    Args:
        model: Any; its own forward pass is used, with hooks.
        context: b windows of the run that is patched.
        source: What senders wrote in the other run (b, n, d); those in ``patches`` at least.
        patches: Edges, each with the tokens (b, n) bool at which it is patched. One whose sender comes
            after its receiver changes nothing: there is nothing to read yet.
    """
    current: dict[str, Tensor] = {}
    by_input: dict[str, list[tuple[Edge, Tensor]]] = {}
    for edge, mask_bn in patches:
        if edge.exists:
            by_input.setdefault(input_hook(model.cfg, edge.receiver), []).append((edge, mask_bn))

    def keep(value: Tensor, hook: HookPoint) -> None:
        current[hook.name] = value

    def add(value: Tensor, hook: HookPoint) -> Tensor:
        value = value.clone()
        for edge, mask_bn in by_input[hook.name]:
            wrote = output(model, current, edge.sender)
            change = (source[edge.sender] - wrote) * mask_bn.unsqueeze(-1)
            head = edge.receiver.head
            (value if head is None else value[:, :, head]).add_(change)
        return value

    hooks: list = [(name, keep) for name in output_hooks(model.cfg)]
    hooks += [(name, add) for name in by_input]
    with split_inputs(model), model.hooks(fwd_hooks=hooks):
        return model(context)[:, -1]


def input_hook(cfg: ModelConfig, receiver: Receiver) -> str:
    """The activation that a receiver reads, with :func:`split_inputs`; a head reads its part of the axis."""
    if receiver.input == "logits":  # nobody else reads the stream there
        return f"blocks.{cfg.n_layers - 1}.hook_resid_post"
    return f"blocks.{receiver.layer}.hook_{receiver.input}_{'in' if receiver.head is None else 'input'}"
