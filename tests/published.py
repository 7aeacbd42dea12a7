"""Checkpoints and trajectories in the studies' format, of small random models, and what those compute.

The models here are written from the format's description, apart from dtx's own, so that a test can hold one
against the other.
"""

from __future__ import annotations

import gzip
import json
import lzma
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dtx.stage import Stage
from dtx.store import store as stores

ENVIRONMENT = {
    "env_id": "MiniGrid-MemoryS7FixedStart-v0",
    "one_hot_obs": True,
    "img_obs": False,
    "fully_observed": False,
    "max_steps": 60,
    "seed": 1,
    "view_size": 7,
    "capture_video": False,
    "video_dir": "videos",
    "video_frequency": 50,
    "render_mode": "rgb_array",
    "action_space": None,
    "observation_space": None,
    "device": "cpu",
}
RAW = {**ENVIRONMENT, "one_hot_obs": False}


def put_into_store(stage: Stage, root: Path) -> Any:
    """Run a stage into a store of its own and give what it loads."""
    with stores.used(stores.Store(root)) as store:
        with store.work(stage) as work:
            stage.run(work)
            store.commit(stage, work, {})
        return stage.load()


def write(
    path: Path, tensors: dict[str, Tensor], model: dict, environment: dict = ENVIRONMENT
) -> Path:
    """A checkpoint as torch.save writes it."""
    configs = {"model_config": json.dumps(model), "environment_config": json.dumps(environment)}
    torch.save({"model_state_dict": tensors, **configs}, path)
    return path


# --- transformers ------------------------------------------------------------------------------------


def transformer(
    *,
    layers: int = 1,
    gated: bool = False,
    norm: str | bool | None = "LN",
    activation: str = "relu",
    state: str = "one-hot",
    time: str = "embedding",
    clone: bool = False,
    n_ctx: int | None = None,
    n_actions: int = 7,
    d: int = 12,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Random tensors and the model's config: one-hot, indices or conv states."""
    random = torch.Generator().manual_seed(layers)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random) * 0.4

    n_ctx, h, f = n_ctx or (7 if clone else 8), 2, 10
    tensors = {
        "action_embedding.0.weight": draw(n_actions + 1, d),
        "action_predictor.weight": draw(n_actions, d),
        "action_predictor.bias": draw(n_actions),
        "state_predictor.weight": draw(980, d),
        "state_predictor.bias": draw(980),
        "transformer.pos_embed.W_pos": draw(n_ctx, d),
    }
    if not clone:
        tensors["reward_embedding.0.weight"] = draw(d, 1)
        tensors |= {"reward_predictor.weight": draw(1, d), "reward_predictor.bias": draw(1)}
    if time == "linear":
        tensors |= {"time_embedding.weight": draw(d, 1) / 10, "time_embedding.bias": draw(d)}
    else:
        tensors["time_embedding.weight"] = draw(61, d)
    if state == "conv":
        place = "state_embedding."
        tensors[place + "image_bow.embedding.weight"] = draw(33, d)
        for i in (1, 2):
            tensors |= batch_normalised(f"{place}conv{i}", f"{place}bn{i}", d, d, 3, draw)
    else:
        tensors["state_embedding.weight"] = (
            draw(d, 980) / 3 if state == "one-hot" else draw(d, 147) / 30
        )
    for layer in range(layers):
        place = f"transformer.blocks.{layer}."
        for name in "QKV":
            tensors |= {
                f"{place}attn.W_{name}": draw(h, d, d // h),
                f"{place}attn.b_{name}": draw(h, d // h),
            }
        tensors |= {f"{place}attn.W_O": draw(h, d // h, d), f"{place}attn.b_O": draw(d)}
        tensors |= {f"{place}mlp.W_in": draw(d, f), f"{place}mlp.b_in": draw(f)}
        tensors |= {f"{place}mlp.W_out": draw(f, d), f"{place}mlp.b_out": draw(d)}
        if gated:
            tensors[f"{place}mlp.W_gate"] = draw(d, f)
        tensors[f"{place}attn.mask"] = torch.ones(n_ctx, n_ctx).tril().bool()
        tensors[f"{place}attn.IGNORE"] = torch.tensor(-1e5)
        if norm == "LN":
            for ln in ("ln1", "ln2"):
                tensors |= {f"{place}{ln}.w": 1 + draw(d), f"{place}{ln}.b": draw(d)}
    if norm == "LN":
        tensors |= {"transformer.ln_final.w": 1 + draw(d), "transformer.ln_final.b": draw(d)}
    config = {
        "d_model": d,
        "n_heads": h,
        "d_mlp": f,
        "n_layers": layers,
        "n_ctx": n_ctx,
        "layer_norm": norm,
        "gated_mlp": gated,
        "activation_fn": activation,
        "state_embedding_type": "cnn" if state == "conv" else "grid",
        "time_embedding_type": time,
        "seed": 1,
        "device": "cpu",
    }
    return tensors, config


def batch_normalised(
    conv: str, norm: str, inputs: int, outputs: int, kernel: int, draw
) -> dict[str, Tensor]:
    """A convolution and its batch normalisation with statistics of its own."""
    return {
        f"{conv}.weight": draw(outputs, inputs, kernel, kernel) / 2,
        f"{conv}.bias": draw(outputs),
        f"{norm}.weight": 1 + draw(outputs),
        f"{norm}.bias": draw(outputs),
        f"{norm}.running_mean": draw(outputs),
        f"{norm}.running_var": 0.5 + draw(outputs).abs(),
        f"{norm}.num_batches_tracked": torch.tensor(3),
    }


def normalised_convolution(tensors: dict[str, Tensor], conv: str, norm: str, x: Tensor) -> Tensor:
    """Convolution, batch normalisation in evaluation mode, ReLU."""
    x = F.conv2d(x, tensors[f"{conv}.weight"], tensors[f"{conv}.bias"], padding=1)
    statistics = (tensors[f"{norm}.running_mean"], tensors[f"{norm}.running_var"])
    return F.relu(F.batch_norm(x, *statistics, tensors[f"{norm}.weight"], tensors[f"{norm}.bias"]))


def transformer_logits(
    tensors: dict[str, Tensor],
    config: dict[str, Any],
    observations: Tensor,
    actions: Tensor,
    returns: Tensor,
    timesteps: Tensor,
) -> Tensor:
    """What the published code computes.

    Args:
        observations: (b, t, 7, 7, 3) indices or (b, t, 7, 7, 20) one-hots. actions: (b, t - 1).
        returns: (b, t). timesteps: (b, t).

    Returns:
        (b, t, a) at the states.
    """
    if config["state_embedding_type"] == "cnn":
        place = "state_embedding."
        ids = observations.flatten(0, 1).long() + torch.tensor([0, 11, 22])
        x = tensors[place + "image_bow.embedding.weight"][ids].sum(3).permute(0, 3, 1, 2)
        for i in (1, 2):
            x = normalised_convolution(tensors, f"{place}conv{i}", f"{place}bn{i}", x)
        state = F.relu(F.max_pool2d(x, 7, stride=2)).flatten(1).unflatten(0, observations.shape[:2])
    else:
        state = (
            observations.float().permute(0, 1, 4, 2, 3).flatten(2)
            @ tensors["state_embedding.weight"].T
        )
    if config["time_embedding_type"] == "linear":
        weight, bias = tensors["time_embedding.weight"], tensors["time_embedding.bias"]
        time = F.linear(timesteps.float().unsqueeze(-1), weight, bias)
    else:
        time = tensors["time_embedding.weight"][timesteps]
    last = torch.zeros(len(actions), 1, dtype=torch.long)
    parts = [state, tensors["action_embedding.0.weight"][torch.cat([actions, last], 1)]]
    if "reward_embedding.0.weight" in tensors:
        parts.insert(0, returns.unsqueeze(-1) @ tensors["reward_embedding.0.weight"].T)
    x = (torch.stack(parts, 2) + time.unsqueeze(2)).flatten(1, 2)[:, :-1]
    x = x + tensors["transformer.pos_embed.W_pos"][: x.shape[1]]
    for layer in range(config["n_layers"]):
        x = _block(tensors, config, f"transformer.blocks.{layer}.", x)
    x = _norm(tensors, config, "transformer.ln_final", x)
    states = x[:, len(parts) - 2 :: len(parts)]
    return F.linear(states, tensors["action_predictor.weight"], tensors["action_predictor.bias"])


def _norm(tensors: dict[str, Tensor], config: dict[str, Any], place: str, x: Tensor) -> Tensor:
    if config["layer_norm"] in (None, False, "None"):
        return x
    x = x - x.mean(-1, keepdim=True)
    x = x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    return x * tensors[f"{place}.w"] + tensors[f"{place}.b"] if config["layer_norm"] == "LN" else x


def _block(tensors: dict[str, Tensor], config: dict[str, Any], place: str, x: Tensor) -> Tensor:
    normal = _norm(tensors, config, f"{place}ln1", x)
    q, k, v = (
        torch.einsum("bnd,hde->bhne", normal, tensors[f"{place}attn.W_{i}"])
        + tensors[f"{place}attn.b_{i}"][:, None]
        for i in "QKV"
    )
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    scores = scores.masked_fill(~torch.ones(x.shape[1], x.shape[1]).tril().bool(), -torch.inf)
    x = x + torch.einsum("bhne,hed->bnd", scores.softmax(-1) @ v, tensors[f"{place}attn.W_O"])
    x = x + tensors[f"{place}attn.b_O"]
    act = {"relu": F.relu, "gelu": F.gelu}[config["activation_fn"]]
    normal = _norm(tensors, config, f"{place}ln2", x)
    inner = normal @ tensors[f"{place}mlp.W_in"]
    if config["gated_mlp"]:
        inner = act(normal @ tensors[f"{place}mlp.W_gate"]) * inner + tensors[f"{place}mlp.b_in"]
    else:
        inner = act(inner + tensors[f"{place}mlp.b_in"])
    return x + inner @ tensors[f"{place}mlp.W_out"] + tensors[f"{place}mlp.b_out"]


# --- agents ------------------------------------------------------------------------------------------


def agent(
    *, arch: str = "bow_endpool_res", memory: str | None = "lstm", d: int = 6, m: int = 5
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Random tensors and the model's config of a recurrent agent."""
    random = torch.Generator().manual_seed(len(arch))

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random) * 0.4

    tensors, place = {}, "model.image_conv."
    bow, endpool = "bow" in arch, "endpool" in arch
    if bow:
        tensors[f"{place}0.embedding.weight"] = draw(27, d)
    at = int(bow)
    tensors |= batch_normalised(
        f"{place}{at}", f"{place}{at + 1}", d if bow else 3, d, 3 if endpool else 2, draw
    )
    at += 3 if endpool else 4
    tensors |= batch_normalised(f"{place}{at}", f"{place}{at + 1}", d, d, 3, draw)
    gates = {"lstm": 4, "gru": 3, None: 0}[memory] * m
    if memory:
        for to, width in (("ih", d), ("hh", m)):
            tensors |= {
                f"model.memory_rnn.weight_{to}": draw(gates, width),
                f"model.memory_rnn.bias_{to}": draw(gates),
            }
    for head, outputs in (("actor", 7), ("critic", 1)):
        tensors |= {
            f"model.{head}.0.weight": draw(8, m if memory else d),
            f"model.{head}.0.bias": draw(8),
        }
        tensors |= {
            f"model.{head}.2.weight": draw(outputs, 8),
            f"model.{head}.2.bias": draw(outputs),
        }
    config = {
        "environment_config": RAW,
        "image_dim": d,
        "memory_dim": m,
        "instr_dim": 128,
        "use_instr": False,
        "lang_model": "gru",
        "use_memory": memory is not None,
        "recurrence": 8,
        "arch": arch,
        "aux_info": False,
        "device": "cpu",
    }
    return tensors, config


def agent_step(
    tensors: dict[str, Tensor], arch: str, observations: Tensor, memory: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, values and memory as the published code computes them."""
    place = "model.image_conv."
    if "bow" in arch:
        ids = observations.long() + torch.tensor([0, 9, 18])
        x = tensors[f"{place}0.embedding.weight"][ids].sum(3).permute(0, 3, 1, 2)
    else:
        x = observations.permute(0, 3, 1, 2).float()
    at, endpool = int("bow" in arch), "endpool" in arch
    x = normalised_convolution(tensors, f"{place}{at}", f"{place}{at + 1}", x)
    at += 3 if endpool else 4
    x = x if endpool else F.max_pool2d(x, 2, stride=2)
    x = normalised_convolution(tensors, f"{place}{at}", f"{place}{at + 1}", x)
    x = x if endpool else F.max_pool2d(x, 2, stride=2)
    x = F.relu(F.max_pool2d(x, 7 if endpool else 2, stride=2)).flatten(1)
    if "model.memory_rnn.weight_ih" in tensors:
        width = tensors["model.memory_rnn.weight_hh"].shape[1]
        lstm = len(tensors["model.memory_rnn.bias_ih"]) == 4 * width
        cell = (torch.nn.LSTMCell if lstm else torch.nn.GRUCell)(x.shape[1], width)
        names = {
            n: tensors[f"model.memory_rnn.{n}"]
            for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        }
        cell.load_state_dict(names)
        with torch.no_grad():
            x = cell(x, tuple(memory.chunk(2, 1)) if lstm else memory)
        x, memory = (x[0], torch.cat(x, 1)) if lstm else (x, x)
    heads = []
    for head in ("actor", "critic"):
        w = [tensors[f"model.{head}.{i}.{part}"] for i in (0, 2) for part in ("weight", "bias")]
        heads.append(F.linear(torch.tanh(F.linear(x, w[0], w[1])), w[2], w[3]))
    return heads[0], heads[1].squeeze(1), memory


# --- trajectories ------------------------------------------------------------------------------------


def write_trajectories(path: Path, data: dict[str, np.ndarray], args: Any) -> Path:
    """A trajectory file as the studies' writer makes it."""
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    with opener(path, "wb") as stream:
        pickle.dump({"data": data, "metadata": {"args": args, "time": 0.0}}, stream)
    return path
