"""The studies' agents: BabyAI-like convolutions with or without memory, or fully connected; for acting only.

What an agent consists of follows from the names and shapes of its tensors. Names here::

    cell.weight                       (3 v, k) embedding of object, colour and state, v values each; or absent
    first.*, second.*                 convolutions (weight, bias) and batch normalisation (scale, shift,
                                      mean, variance)
    memory.{weight,bias}_{ih,hh}      an LSTM's or a GRU's; or absent
    actor.i.*, critic.i.*             linear layers with Tanh between them

Axes: n observations · d features · m memory · a actions · x, y cell.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dtx.agent.network import WEIGHTS
from dtx.env import encoding
from dtx.errors import UserError
from dtx.exchange.published.checkpoint import Checkpoint, Fields, Seen, Taken, convolution, seen_of
from dtx.files import read_tensors

_HEADS = ("actor", "critic")


class PublishedAgent(nn.Module):
    """Acts as the published agent did, batch normalisation in evaluation mode.

    Args:
        weights: By the names above.
    """

    def __init__(self, weights: dict[str, Tensor]):
        super().__init__()
        self.places = {name: name.replace(".", "__") for name in weights}
        for name, place in self.places.items():
            self.register_buffer(place, weights[name])
        self.layers = sum(name.startswith("actor.") for name in weights) // 2
        self.n_actions = weights[f"actor.{self.layers - 1}.bias"].shape[0]

    def __getitem__(self, name: str) -> Tensor:
        """A tensor by its name."""
        return self.get_buffer(self.places[name])

    @property
    def memory_size(self) -> int:
        """Numbers that are remembered: an LSTM's hidden and cell state, a GRU's state, or none."""
        if "memory.weight_hh" not in self.places:
            return 0
        return self["memory.weight_hh"].shape[1] * (2 if self.is_lstm else 1)

    @property
    def is_lstm(self) -> bool:
        """Whether the memory has an LSTM's four gates, not a GRU's three."""
        weight = self["memory.weight_hh"]
        return weight.shape[0] == 4 * weight.shape[1]

    def initial_memory(self, n: int) -> Tensor:
        """The memory before an episode's first observation, (n, m) zeros."""
        return torch.zeros(n, self.memory_size)

    def step(
        self, observations: Tensor | np.ndarray, memory: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One step of n environments.

        Args:
            observations: (n, 7, 7, 3) uint8.
            memory: (n, m); :meth:`initial_memory` where an episode begins.

        Returns:
            Logits (n, a), values (n,), memory after the step (n, m).
        """
        rows, index = encoding.distinct(np.asarray(observations))
        x_nd = self._features(torch.from_numpy(rows))[torch.from_numpy(index)]
        if self.memory_size:
            weights = [
                self[f"memory.{kind}_{to}"] for kind in ("weight", "bias") for to in ("ih", "hh")
            ]
            if self.is_lstm:
                hidden, cell = memory.chunk(2, dim=1)
                x_nd, cell = torch.lstm_cell(x_nd, (hidden, cell), *weights)
                memory = torch.cat([x_nd, cell], dim=1)
            else:
                x_nd = memory = torch.gru_cell(x_nd, memory, *weights)
        logits, value = (self._head(name, x_nd) for name in _HEADS)
        return logits, value.squeeze(1), memory

    def _features(self, observations: Tensor) -> Tensor:
        if "first.weight" not in self.places:
            one_hot = self["actor.0.weight"].shape[1] == encoding.SIZE
            seen = (
                torch.from_numpy(encoding.one_hot(observations.numpy()))
                if one_hot
                else observations
            )
            return seen.flatten(1).float()
        if "cell.weight" in self.places:
            values = self["cell.weight"].shape[0] // 3
            # Ids above an offset are those of the next kind, as in the published agents.
            ids = observations.long() + torch.arange(3) * values
            image = F.embedding(ids, self["cell.weight"]).sum(3).permute(0, 3, 1, 2)
        else:
            image = observations.float().permute(0, 3, 1, 2)
        pooled = self["first.weight"].shape[-1] == 2  # without "endpool": pooled in between, too
        for name in ("first", "second"):
            image = F.conv2d(image, self[f"{name}.weight"], self[f"{name}.bias"], padding=1)
            # Not folded into the convolution: cells of the memory reach 50, where rounding shows.
            mean, variance, scale, shift = (
                self[f"{name}.{p}"] for p in ("mean", "variance", "scale", "shift")
            )
            image = F.relu(F.batch_norm(image, mean, variance, scale, shift))
            image = F.max_pool2d(image, 2) if pooled else image
        return image.amax(dim=(2, 3))

    def _head(self, name: str, x_nd: Tensor) -> Tensor:
        for layer in range(self.layers):
            x_nd = torch.tanh(x_nd) if layer else x_nd
            x_nd = F.linear(x_nd, self[f"{name}.{layer}.weight"], self[f"{name}.{layer}.bias"])
        return x_nd


def is_agent(checkpoint: Checkpoint) -> bool:
    """Whether the tensors are those of an actor and a critic."""
    starts = ("model.actor.", "actor.")
    return any(name.startswith(starts) for name in checkpoint.tensors)


def convert(checkpoint: Checkpoint) -> tuple[PublishedAgent, Seen]:
    """Map every tensor and every field.

    Raises:
        UserError: Names the tensor or the field that cannot be mapped, and the reason.
    """
    seen = seen_of(checkpoint)
    if any(name.startswith("actor.transformer.") for name in checkpoint.tensors):
        raise checkpoint.refuse(
            "tensor actor.transformer.*: agents of transformers cannot be imported"
        )
    if "model.actor.0.weight" in checkpoint.tensors:
        return PublishedAgent(_convolutional(checkpoint, seen)), seen
    taken = Taken(checkpoint)
    first = checkpoint.tensors.get("actor.1.weight")
    size = encoding.SIZE if seen.one_hot else encoding.ACTIVE
    if first is None or first.ndim != 2 or first.shape[1] != size:
        shape = None if first is None else list(first.shape)
        raise checkpoint.refuse(
            f"tensor actor.1.weight has shape {shape}; a fully connected agent reads {size} numbers of a "
            "7x7 view"
        )
    weights = _heads(
        taken, {name: (f"{name}.1", f"{name}.3", f"{name}.5") for name in _HEADS}, size
    )
    taken.finish()
    fields = Fields(checkpoint, "model_config")
    width = weights["actor.0.bias"].shape[0]
    fields.must_be("hidden_dim", width, (int,), width)
    fields.finish("device")
    return PublishedAgent(weights), seen


def _convolutional(checkpoint: Checkpoint, seen: Seen) -> dict[str, Tensor]:
    fields, taken = Fields(checkpoint, "model_config"), Taken(checkpoint, "model.")
    fields.must_be("use_instr", False, (bool,), False)
    fields.must_be("aux_info", False, (bool, type(None)), False)
    arch = fields.take("arch", (str,), "bow_endpool_res")
    parts = set(arch.split("_"))
    if unknown := parts - {"original", "bow", "endpool", "res"}:
        raise fields.refuse("arch", arch, f"{min(unknown)!r} cannot be imported")
    if seen.one_hot:
        raise checkpoint.refuse(
            "environment_config.one_hot_obs = True, but the agent reads indices"
        )
    weights, place, kernel = {}, 0, 3 if "endpool" in parts else 2
    if "bow" in parts:
        weights["cell.weight"] = taken.take("image_conv.0.embedding.weight", None, None)
        rows, place = weights["cell.weight"].shape[0], 1
        if rows % 3 or rows < 12:
            raise checkpoint.refuse(
                f"tensor model.image_conv.0.embedding.weight: {rows} rows do not hold MiniGrid's 3 x 11 ids"
            )
    inputs = weights["cell.weight"].shape[1] if "bow" in parts else 3
    conv = f"image_conv.{place}", f"image_conv.{place + 1}"
    first = convolution(taken, *conv, inputs, kernel)
    place += 3 if "endpool" in parts else 4
    channels = first["bias"].shape[0]
    second = convolution(taken, f"image_conv.{place}", f"image_conv.{place + 1}", channels, 3)
    weights |= {f"first.{k}": v for k, v in first.items()} | {
        f"second.{k}": v for k, v in second.items()
    }
    width = second["bias"].shape[0]
    fields.must_be("image_dim", width, (int,), width)
    remembers = "memory_rnn.weight_ih" in taken
    fields.must_be("use_memory", remembers, (bool,), False)
    if remembers:
        weights |= _memory(taken, width)
        width = weights["memory.weight_hh"].shape[1]
        fields.must_be("memory_dim", width, (int,), width)
    weights |= _heads(taken, {name: (f"{name}.0", f"{name}.2") for name in _HEADS}, width)
    taken.finish()
    fields.finish(
        "environment_config", "instr_dim", "lang_model", "memory_dim", "recurrence", "device"
    )
    return weights


def _memory(taken: Taken, width: int) -> dict[str, Tensor]:
    gates = taken.take("memory_rnn.weight_ih", None, width)
    wide = gates.shape[0]
    hidden = taken.take("memory_rnn.weight_hh", wide, None)
    if wide not in (3 * hidden.shape[1], 4 * hidden.shape[1]):
        raise taken.checkpoint.refuse(
            f"tensor model.memory_rnn.weight_hh {list(hidden.shape)}: neither an LSTM's 4 gates nor a GRU's 3"
        )
    biases = {f"memory.bias_{to}": taken.take(f"memory_rnn.bias_{to}", wide) for to in ("ih", "hh")}
    return {"memory.weight_ih": gates, "memory.weight_hh": hidden, **biases}


def _heads(taken: Taken, layers: dict[str, tuple[str, ...]], width: int) -> dict[str, Tensor]:
    weights = {}
    for head, names in layers.items():
        inputs = width
        for i, name in enumerate(names):
            last = i == len(names) - 1
            outputs = 1 if last and head == "critic" else None
            weights[f"{head}.{i}.weight"] = weight = taken.take(f"{name}.weight", outputs, inputs)
            inputs = weight.shape[0]
            weights[f"{head}.{i}.bias"] = taken.take(f"{name}.bias", inputs)
    return weights


def save(agent: PublishedAgent, folder: Path) -> None:
    """Write ``weights.safetensors``."""
    from safetensors.torch import save_file

    save_file({name: agent[name].contiguous() for name in agent.places}, folder / WEIGHTS)


def load(folder: Path) -> PublishedAgent:
    """Read what :func:`save` wrote.

    Raises:
        UserError: The file is missing or damaged.
    """
    try:
        return PublishedAgent(read_tensors(folder / WEIGHTS)).eval()
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}: not a readable agent ({error})") from error
