"""The Decision Transformer (Chen et al., 2021) with named activations.

A plain module: Lightning modules hold one, they are never the same object. Parameters have
TransformerLens's names and layout, so that its tools read the model: see :mod:`dtx.dt.transformer_lens`.

Shape suffixes: b window, t timestep, n token, d model, a action, c channel of a flattened observation,
u distinct observation, N token of a packed batch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtx.dt.context import Context, Packed
from dtx.dt.edits import Depends
from dtx.dt.hook_points import HookPoint
from dtx.dt.hooks import CheckedHooks, hooked
from dtx.dt.layers import Block, norm
from dtx.dt.model_config import DESCRIPTION, ModelConfig
from dtx.dt.state_encoder import ConvolutionalState
from dtx.dt.transformer_lens import TransformerLensMethods
from dtx.errors import UserError
from dtx.files import read_tensors
from dtx.report import write_atomically

WEIGHTS = "weights.safetensors"


class Embedding(nn.Module):
    """Tokens to vectors: modality embedding + time embedding. Rows are inputs, columns d."""

    def __init__(self, cfg: ModelConfig):
        super().__init__()
        self.cfg = cfg
        d = cfg.d_model
        if cfg.state_encoder == "conv":
            self.encoder = ConvolutionalState(d)
        else:
            self.W_S = nn.Parameter(torch.empty(cfg.n_channels, d))
        self.b_S = nn.Parameter(torch.zeros(d)) if cfg.state_bias else None
        self.W_A = nn.Parameter(torch.empty(cfg.n_actions + 1, d))
        self.W_R = nn.Parameter(torch.empty(1, d)) if cfg.reward_to_go else None
        rows = cfg.n_timesteps if cfg.time_embedding == "learned" else 1
        self.W_time = nn.Parameter(torch.empty(rows, d))
        slots = ("state", "action", *(["reward_to_go"] if cfg.reward_to_go else []))
        for name in (*slots, "time"):
            setattr(self, f"hook_{name}", HookPoint())

    def state(self, one_hot: Tensor) -> Tensor:
        """Embed flattened one-hots (..., c) as (..., d)."""
        if self.cfg.state_encoder == "conv":
            return self.encoder(one_hot)
        return F.linear(one_hot, self.W_S.T, self.b_S)

    def __getattr__(self, name: str) -> Any:
        """Explains why there is no ``W_S`` where the state embedding is no matrix."""
        if name == "W_S" and "encoder" in self._modules:
            raise UserError(
                "the model's state embedding is convolutional: it has no matrix W_S to read"
            )
        return super().__getattr__(name)

    def time(self, timestep: Tensor) -> Tensor:
        """Embed timesteps (...) as (..., d)."""
        if self.cfg.time_embedding == "learned":
            return F.embedding(timestep, self.W_time)
        return timestep.unsqueeze(-1).to(self.W_time.dtype) * self.W_time[0]

    def forward(self, context: Context) -> Tensor:
        """Embed padded windows as tokens (b, n, d) in the order R S A R S A ... S."""
        if "one_hot" in context:
            state_btd = self.state(context["one_hot"])
        else:
            state_btd = F.embedding(context["observation"], self.state(context["table"]))
        steps = state_btd.shape[1]
        parts = [self.hook_state(state_btd)]
        parts.append(self.hook_action(F.embedding(context["action"][:, :steps], self.W_A)))
        if self.W_R is not None:
            value_bt1 = context["reward_to_go"].unsqueeze(-1).to(self.W_R.dtype)
            parts.insert(0, self.hook_reward_to_go(value_bt1 * self.W_R[0]))
        time_btd = self.hook_time(self.time(context["timestep"]))
        tokens_btkd = torch.stack(parts, 2) + time_btd.unsqueeze(2)
        return tokens_btkd.flatten(1, 2)[:, :-1]

    def packed(self, batch: Packed) -> Tensor:
        """Embed a packed batch as (N, d): one look-up in a table of all distinct contents."""
        contents = [self.state(batch.table), self.W_A]
        if self.W_R is not None:
            contents.append(batch.reward_to_go.unsqueeze(-1) * self.W_R)
        return F.embedding(batch.content, torch.cat(contents)) + self.time(batch.timestep)


class PositionalEmbedding(nn.Module):
    """A learned vector for each place in the window."""

    def __init__(self, cfg: ModelConfig):
        super().__init__()
        self.W_pos = nn.Parameter(torch.empty(cfg.n_ctx, cfg.d_model))


class Unembedding(nn.Module):
    """Residual stream to action logits."""

    def __init__(self, cfg: ModelConfig):
        super().__init__()
        self.W_U = nn.Parameter(torch.empty(cfg.d_model, cfg.n_actions))
        self.b_U = nn.Parameter(torch.zeros(cfg.n_actions))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (..., a) of (..., d)."""
        return F.linear(x, self.W_U.T, self.b_U)


class DecisionTransformerModel(TransformerLensMethods, CheckedHooks):
    """Decision Transformer, or behaviour clone if ``cfg.reward_to_go`` is false.

    Source: Chen et al. 2021, "Decision Transformer"; sizes and tokens of the MemoryDT study.
    """

    tokenizer = None

    def __init__(self, cfg: ModelConfig):
        super().__init__()
        self.cfg = cfg
        self.embed = Embedding(cfg)
        self.hook_embed = HookPoint()
        if cfg.positional_embedding:
            self.pos_embed = PositionalEmbedding(cfg)
            self.hook_pos_embed = HookPoint()
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.n_layers))
        self.ln_final = norm(cfg)
        self.unembed = Unembedding(cfg)
        self.setup()

    def forward(self, context: Context, return_type: str = "logits") -> Tensor:
        """Action logits (b, t, a) at the state tokens of padded windows.

        Args:
            context: At most ``cfg.n_steps`` timesteps. Left-padding models want all of them.
            return_type: ``logits``; other values, known to TransformerLens, mean nothing here.
        """
        resid_bnd = self.residual(context)
        return self.unembed(self.ln_final(resid_bnd)[:, self.cfg.layout.states])

    def last_logits(self, context: Context) -> Tensor:
        """Action logits (b, a) at the last state, for acting: nothing else of the last block is computed."""
        if self.has_hooks:
            return self(context)[:, -1]
        resid_bnd = self.residual(context, self.cfg.n_layers - 1)
        return self.unembed(self.ln_final(self.blocks[-1].last(resid_bnd)))[:, 0]

    def residual(self, context: Context, layer: int | None = None) -> Tensor:
        """Residual stream (b, n, d) before a layer; 0: the embedding; None: after the last one."""
        resid_bnd = self._embedded(context)
        for block in self.blocks[:layer]:
            resid_bnd = block(resid_bnd)
        return resid_bnd

    def read(self, resid: Tensor) -> Tensor:
        """Action logits (..., a) that the last LayerNorm and the unembedding read in a stream (..., d)."""
        return self.unembed(self.ln_final(resid))

    def _embedded(self, context: Context) -> Tensor:
        resid_bnd = self.hook_embed(self.embed(context))
        if not self.cfg.positional_embedding:
            return resid_bnd
        place_nd = self.pos_embed.W_pos[: resid_bnd.shape[1]]
        return resid_bnd + self.hook_pos_embed(place_nd.expand_as(resid_bnd))

    def packed(self, batch: Packed) -> Tensor:
        """Logits (states, a) of a packed batch: the same numbers without any padding, for training.

        The last block's queries, output and MLP are computed at state tokens only.

        Raises:
            UserError: Somebody reads or edits an activation: hooks are not called here, where axes differ.
        """
        if hooked(*self.hook_dict.values()):
            raise UserError("packed windows pass by no hook: call model(context), or reset_hooks()")
        resid_Nd = self.embed.packed(batch)
        if self.cfg.positional_embedding:
            resid_Nd = resid_Nd + F.embedding(batch.place, self.pos_embed.W_pos)
        for block in self.blocks[:-1]:
            resid_Nd = block.packed(resid_Nd, batch.packing, states_only=False)
        return self.unembed(self.ln_final(self.blocks[-1].packed(resid_Nd, batch.packing, True)))

    @property
    def by_token(self) -> DecisionTransformerModel | None:
        """Itself, if each token is edited by itself or nothing is: then keys and values can be kept."""
        return self if self.depends is Depends.token else None

    @property
    def has_hooks(self) -> bool:
        """Whether anyone reads or edits an activation, or what a module gives."""
        return hooked(self, *self.mod_dict.values())

    def __getattr__(self, name: str) -> Any:
        """``W_Q`` ... ``b_out``: the blocks' parameters stacked over layers, as TransformerLens has it."""
        if name[:2] in ("W_", "b_") and name[2:] in ("Q", "K", "V", "O"):
            return torch.stack([getattr(block.attn, name) for block in self.blocks])
        if name in ("W_in", "W_out", "b_in", "b_out", "W_gate"):
            return torch.stack([getattr(block.mlp, name) for block in self.blocks])
        if name in ("W_U", "b_U"):
            return getattr(self.unembed, name)
        return super().__getattr__(name)


def packed_flops(cfg: ModelConfig, batch: Packed) -> float:
    """Floating-point operations of one forward and backward pass over a packed batch's real tokens.

    Counts multiply-adds of the matrix products that the definition of the model needs, twice, times
    three for the backward pass; the last block's queries, output and MLP at state tokens only.
    """
    d, inner, f = cfg.d_model, cfg.n_heads * cfg.d_head, cfg.d_mlp * (2 if cfg.gated_mlp else 1)
    keys_values, rest = 2 * d * inner, 2 * d * inner + d * f + d * cfg.d_mlp
    tokens, states = batch.content.numel(), batch.target.numel()
    products = cfg.n_layers * tokens * keys_values + ((cfg.n_layers - 1) * tokens + states) * rest
    for group in batch.packing.groups:
        asking = (cfg.n_layers - 1) * group.tokens + group.states
        products += group.windows * asking * group.tokens * inner  # two products, half causal each
    products += states * d * cfg.n_actions + batch.table.shape[0] * cfg.n_channels * d * 2 / 3
    return 2.0 * 3.0 * products


def initialise(
    model: DecisionTransformerModel, scale: float | None, embedding: float, seed: int
) -> None:
    """Draw all weights. ``scale: None`` is fan-in (std 1/sqrt(inputs)) for hidden matrices.

    Args:
        scale: Standard deviation of hidden matrices (the study: .02).
        embedding: Standard deviation of the embedding tables.
        seed: Seed of the draw.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        leaf = name.rpartition(".")[2]
        if not leaf.startswith("W_"):
            continue
        std = embedding
        if leaf not in ("W_S", "W_A", "W_R", "W_time", "W_pos"):
            inputs = (
                parameter.shape[0] * parameter.shape[1] if leaf == "W_O" else parameter.shape[-2]
            )
            std = 1 / math.sqrt(inputs) if scale is None else scale
        with torch.no_grad():
            parameter.normal_(0.0, std, generator=generator)


def centre_state(network: DecisionTransformerModel, mean_one_hot: Tensor) -> None:
    """Set the state embedding's bias so that the mean observation embeds as 0.

    Most of an observation's 147 active channels are the same in all of them; without this their sum
    drowns what differs.
    """
    bias = network.embed.b_S
    assert bias is not None
    with torch.no_grad():
        bias.copy_(-(mean_one_hot @ network.embed.W_S))


def save(model: DecisionTransformerModel, folder: Path) -> None:
    """Write weights.safetensors and model.json."""
    save_weights(model, folder / WEIGHTS)
    write_atomically(folder / DESCRIPTION, json.dumps(model.cfg.to_dict(), indent=1) + "\n")


def save_weights(model: DecisionTransformerModel, path: Path) -> None:
    """Write the parameters as safetensors, whole or not at all."""
    weights = {k: v.detach().contiguous() for k, v in model.state_dict().items()}
    partial = path.with_name(path.name + ".partial")
    safetensors.torch.save_file(weights, partial)
    partial.replace(path)


def check_weights(config: ModelConfig, weights: Mapping[str, Tensor]) -> None:
    """Whether weights are those of a description, before anything as large as it says is made.

    Raises:
        ValueError: A shape differs, or a weight is not a finite number.
    """
    blocks = {name.split(".")[1] for name in weights if name.startswith("blocks.")}
    if len(blocks) != config.n_layers:  # first: even blocks without content take time
        raise ValueError(f"{len(blocks)} blocks, but the description says {config.n_layers}")
    with torch.device("meta"):  # shapes alone
        wanted = DecisionTransformerModel(config).state_dict()
    for name in sorted(wanted.keys() | weights.keys()):
        shapes = [tuple(d[name].shape) if name in d else None for d in (weights, wanted)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{name} is {shapes[0]}, but the description says {shapes[1]}")
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{name} holds a number that is not finite")


def load(folder: Path, weights: Path | None = None) -> DecisionTransformerModel:
    """Read a model in evaluation mode; ``weights`` may name one of its kept checkpoints.

    Raises:
        UserError: A file is missing, damaged, or the weights do not fit the description.
    """
    path = weights or folder / WEIGHTS
    try:
        config = ModelConfig.read(folder)
        tensors = read_tensors(path)
        check_weights(config, tensors)
        model = DecisionTransformerModel(config)
        model.load_state_dict(tensors)
        for block in model.blocks:
            block.attn.lay_flat()
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        what = str(error).splitlines()[0]
        raise UserError(
            f"{path}: not a readable model ({what}); invalidate the stage to redo it"
        ) from error
    return model.eval()
