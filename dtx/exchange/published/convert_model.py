"""Convert a published checkpoint of a Decision Transformer, or of a behaviour clone, to our model.

The studies' model: tokens are modality embedding + time embedding; TransformerLens's blocks; windows are
padded on the left. Two more heads predict states and rewards: nothing reads them, so they are ignored.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dtx.dt.layers import ACTIVATIONS
from dtx.dt.model import DecisionTransformerModel, ModelConfig
from dtx.env.encoding import ACTIVE, CHANNELS, OFFSETS, SIZE, VIEW
from dtx.exchange.published.checkpoint import (
    Checkpoint,
    Fields,
    Seen,
    Taken,
    convolution,
    folded,
    seen_of,
)

_OTHER_HEADS = [
    f"{of}_predictor.{part}" for of in ("state", "reward") for part in ("weight", "bias")
]
_KINDS = (11, 6, 3)


@dataclass(frozen=True)
class Converted:
    """A published model as ours.

    Attributes:
        model: In evaluation mode. seen: Where it was trained.
        ignored: Tensors that have no part in choosing actions.
    """

    model: DecisionTransformerModel
    seen: Seen
    ignored: list[str]


def is_transformer(checkpoint: Checkpoint) -> bool:
    """Whether the tensors are those of a trajectory transformer: it embeds actions and predicts them."""
    names = checkpoint.tensors.keys()
    return "action_embedding.0.weight" in names and "action_predictor.weight" in names


def convert(checkpoint: Checkpoint) -> Converted:
    """Map every tensor and every field.

    Raises:
        UserError: Names the tensor or the field that cannot be mapped, and the reason.
    """
    seen, fields, taken = seen_of(checkpoint), Fields(checkpoint, "model_config"), Taken(checkpoint)
    clone = "reward_embedding.0.weight" not in taken
    actions = taken.take("action_embedding.0.weight", None, None)
    padded, d = actions.shape
    weights = {
        "embed.W_A": actions,
        "unembed.W_U": taken.take("action_predictor.weight", padded - 1, d).T,
        "unembed.b_U": taken.take("action_predictor.bias", padded - 1),
    }
    if not clone:
        weights["embed.W_R"] = taken.take("reward_embedding.0.weight", d, 1).T
    time = _time(fields, taken, d, seen.max_steps)
    state, encoder = _state(fields, taken, d, seen)
    weights |= {"embed.W_time": time, **state}
    weights["pos_embed.W_pos"] = taken.take("transformer.pos_embed.W_pos", None, d)
    n_ctx, step = weights["pos_embed.W_pos"].shape[0], 2 if clone else 3
    if (n_ctx + 1) % step:
        what = "S A ... S" if clone else "R S A ... R S"
        raise fields.refuse("n_ctx", n_ctx, f"a window of tokens {what} is not so long")
    cfg, scaled = _model_config(fields, taken, d, n_ctx)
    cfg.n_steps, cfg.n_timesteps = (n_ctx + 1) // step, time.shape[0]
    cfg.reward_to_go, cfg.n_actions, cfg.state_encoder = not clone, padded - 1, encoder
    for layer in range(cfg.n_layers):
        weights |= _block(taken, cfg, layer, scaled)
    if cfg.normalization_type:
        weights |= _norm(taken, "ln_final", d, scaled)
    ignored = taken.drop(*_OTHER_HEADS)
    taken.finish()
    fields.finish("seed", "device")
    model = DecisionTransformerModel(cfg)
    model.load_state_dict({name: value.contiguous() for name, value in weights.items()})
    return Converted(model.eval(), seen, ignored)


def _model_config(fields: Fields, taken: Taken, d: int, n_ctx: int) -> tuple[ModelConfig, bool]:
    """Sizes from the tensors' shapes, which the config must not contradict; the activation from the config.

    Returns:
        The config (steps, timesteps and actions are not set yet), and whether LayerNorms have weights.
    """
    tensors = taken.checkpoint.tensors
    layers = 0
    while f"transformer.blocks.{layers}.attn.W_Q" in tensors:
        layers += 1
    if not layers:
        raise taken.checkpoint.refuse("tensor transformer.blocks.0.attn.W_Q is missing")
    query = tensors["transformer.blocks.0.attn.W_Q"]
    inner = tensors.get("transformer.blocks.0.mlp.W_in")
    if query.ndim != 3 or inner is None or inner.ndim != 2:
        raise taken.checkpoint.refuse(
            "tensor transformer.blocks.0.*: not an attention and an MLP by TransformerLens"
        )
    gated = "transformer.blocks.0.mlp.W_gate" in tensors
    sizes = {
        "d_model": d,
        "n_heads": query.shape[0],
        "d_mlp": inner.shape[1],
        "n_layers": layers,
        "n_ctx": n_ctx,
    }
    for name, size in sizes.items():
        fields.must_be(name, size, (int,), size)
    fields.must_be("d_head", query.shape[2], (int,), query.shape[2])
    fields.must_be("gated_mlp", gated, (bool,), False)
    activation = fields.take(
        "activation_fn", (str,), "relu"
    )  # the study's own default, of its older files
    if activation not in ACTIVATIONS:
        raise fields.refuse("activation_fn", activation, f"{' and '.join(ACTIVATIONS)} are known")
    normalised = fields.take("layer_norm", (str, bool, type(None)), None)
    if normalised in (False, None) or str(normalised).lower() == "none":
        normalised = None
    elif normalised not in ("LN", "LNPre"):
        raise fields.refuse("layer_norm", normalised, "LN, LNPre and none are known")
    cfg = ModelConfig(
        n_layers=layers,
        n_heads=query.shape[0],
        d_model=d,
        d_head=query.shape[2],
        d_mlp=inner.shape[1],
        act_fn=activation,
        gated_mlp=gated,
        normalization_type="LN" if normalised else None,
        n_ctx=n_ctx,
        n_steps=1,
        n_timesteps=1,
        time_embedding="learned",
        positional_embedding=True,
        state_bias=False,
        reward_to_go=True,
        left_padding=True,
    )
    return cfg, normalised == "LN"


def _time(fields: Fields, taken: Taken, d: int, max_steps: int) -> Tensor:
    """One row a timestep. A linear embedding of the timestep, with its bias, is such a table, too."""
    linear = "time_embedding.bias" in taken
    kind = fields.take("time_embedding_type", (str,), "embedding")
    if kind != ("linear" if linear else "embedding"):
        raise fields.refuse(
            "time_embedding_type", kind, "the tensors of time_embedding are of another"
        )
    if not linear:
        return taken.take("time_embedding.weight", None, d)
    weight, bias = taken.take("time_embedding.weight", d, 1), taken.take("time_embedding.bias", d)
    if not 0 < max_steps <= 100_000:
        raise taken.checkpoint.refuse(
            f"environment_config.max_steps = {max_steps}: no number of steps"
        )
    return torch.arange(max_steps + 1).float()[:, None] * weight[:, 0] + bias


def _state(fields: Fields, taken: Taken, d: int, seen: Seen) -> tuple[dict[str, Tensor], str]:
    """Weights of the state embedding, and its kind."""
    kind = fields.take("state_embedding_type", (str,), "grid").lower()
    if kind == "cnn":
        return _convolutional(taken, d), "conv"
    if kind != "grid":
        raise fields.refuse("state_embedding_type", kind, "grid and cnn are known")
    weight = taken.take("state_embedding.weight", d, None).T
    if weight.shape[0] == SIZE:
        return {"embed.W_S": weight}, "linear"
    if weight.shape[0] != ACTIVE:
        raise taken.checkpoint.refuse(
            f"tensor state_embedding.weight reads {weight.shape[0]} numbers; a 7x7 view has {SIZE} one-hot, "
            f"{ACTIVE} as indices"
        )
    if seen.one_hot:
        raise taken.checkpoint.refuse(
            f"environment_config.one_hot_obs = True, but tensor state_embedding.weight reads {ACTIVE} indices"
        )
    # A weight times an index is a sum over one-hots, in which channel i of a kind has i times the weight.
    cells = weight.unflatten(0, (3, VIEW * VIEW))
    table = torch.zeros(CHANNELS, VIEW * VIEW, d)
    for one, (first, count) in enumerate(zip(OFFSETS, _KINDS, strict=True)):
        table[first : first + count] = torch.arange(count).float()[:, None, None] * cells[one]
    return {"embed.W_S": table.flatten(0, 1)}, "linear"


def _convolutional(taken: Taken, d: int) -> dict[str, Tensor]:
    rows = taken.take("state_embedding.image_bow.embedding.weight", 3 * max(_KINDS), d)
    spans = (rows[11 * i : 11 * i + count] for i, count in enumerate(_KINDS))
    weights = {"embed.encoder.W_cell": torch.cat(list(spans))}
    for i, name in enumerate(("first", "second"), 1):
        parts = convolution(taken, f"state_embedding.conv{i}", f"state_embedding.bn{i}", d, 3)
        weight, weights[f"embed.encoder.b_{name}"] = folded(parts)
        weights[f"embed.encoder.W_{name}"] = weight.flatten(1).T
    return weights


def _block(taken: Taken, cfg: ModelConfig, layer: int, scaled: bool) -> dict[str, Tensor]:
    h, d, e, f = cfg.n_heads, cfg.d_model, cfg.d_head, cfg.d_mlp
    shapes = {f"attn.W_{name}": (h, d, e) for name in "QKV"} | {
        f"attn.b_{n}": (h, e) for n in "QKV"
    }
    shapes |= {"attn.W_O": (h, e, d), "attn.b_O": (d,)}
    shapes |= {"mlp.W_in": (d, f), "mlp.b_in": (f,), "mlp.W_out": (f, d), "mlp.b_out": (d,)}
    if cfg.gated_mlp:
        shapes["mlp.W_gate"] = (d, f)
    place = f"blocks.{layer}."
    weights = {
        place + n: taken.take(f"transformer.{place}{n}", *shape) for n, shape in shapes.items()
    }
    if cfg.normalization_type:
        for norm in ("ln1", "ln2"):
            weights |= _norm(taken, place + norm, d, scaled)
    # Constants that TransformerLens keeps among the weights.
    mask = taken.checkpoint.tensors.get(f"transformer.{place}attn.mask")
    causal = mask is None or torch.equal(
        mask.bool(), torch.ones(cfg.n_ctx, cfg.n_ctx).tril().bool()
    )
    if not causal:
        raise taken.checkpoint.refuse(f"tensor transformer.{place}attn.mask is not the causal one")
    taken.drop(f"transformer.{place}attn.mask", f"transformer.{place}attn.IGNORE")
    return weights


def _norm(taken: Taken, place: str, d: int, scaled: bool) -> dict[str, Tensor]:
    """A LayerNorm's scale and bias; TransformerLens's LNPre has none, which is 1 and 0."""
    if not scaled:
        return {f"{place}.w": torch.ones(d), f"{place}.b": torch.zeros(d)}
    return {f"{place}.{part}": taken.take(f"transformer.{place}.{part}", d) for part in "wb"}
