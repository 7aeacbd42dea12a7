"""A published checkpoint: tensors by name, and the configs that were stored beside them as JSON.

Format: a dictionary with ``model_state_dict`` and the texts ``model_config``, ``environment_config`` and
``offline_config`` or ``online_config``, written by ``torch.save``; or a safetensors file with the tensors,
and the texts as its metadata. What a file is follows from its content, never from its name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dtx.env.encoding import VIEW
from dtx.errors import UserError
from dtx.files import first_bytes, read_torch, size_of

WEIGHTS_AT = "model_state_dict"
CONFIGS = ("model_config", "environment_config", "offline_config", "online_config")
_ABSENT = object()


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        file: Its name, for messages.
        tensors: By the names of the studies' code.
        configs: Of :data:`CONFIGS`, those that are there.
    """

    file: str
    tensors: Mapping[str, Tensor]
    configs: Mapping[str, Mapping[str, Any]]

    def refuse(self, what: str) -> UserError:
        """The error to raise: what cannot be mapped, and why."""
        return UserError(f"{self.file}: {what}")


class Taken:
    """Tensors, taken one by one with a check of their shape; :meth:`finish` refuses those left over.

    Args:
        checkpoint: Where from.
        prefix: In front of every name.
    """

    def __init__(self, checkpoint: Checkpoint, prefix: str = ""):
        self.checkpoint, self.prefix = checkpoint, prefix
        self._left = dict(checkpoint.tensors)

    def __contains__(self, name: str) -> bool:
        return self.prefix + name in self._left

    def take(self, name: str, *shape: int | None) -> Tensor:
        """A tensor as float32; ``None`` in the shape is any size.

        Raises:
            UserError: It is not there, has another shape, or holds numbers that are not finite.
        """
        tensor = self._left.pop(self.prefix + name, None)
        if tensor is None:
            raise self.checkpoint.refuse(f"tensor {self.prefix + name} is missing")
        actual = tuple(tensor.shape)
        if len(actual) != len(shape) or any(w not in (None, a) for w, a in zip(shape, actual)):  # noqa: B905
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise self.checkpoint.refuse(
                f"tensor {self.prefix + name} has shape {list(actual)}, but [{wanted}] belongs there"
            )
        if not (tensor.is_floating_point() and bool(torch.isfinite(tensor).all())):
            raise self.checkpoint.refuse(
                f"tensor {self.prefix + name} does not hold finite numbers"
            )
        return tensor.float().contiguous()

    def drop(self, *names: str) -> list[str]:
        """Ignore tensors that have no part in what is imported; gives the names of those that are there."""
        there = [name for name in names if name in self]
        for name in there:
            del self._left[self.prefix + name]
        return there

    def finish(self) -> None:
        """Refuse tensors that were not taken."""
        if self._left:
            name, tensor = next(iter(self._left.items()))
            more = f" (and {len(self._left) - 1} more)" if len(self._left) > 1 else ""
            raise self.checkpoint.refuse(
                f"tensor {name} {list(tensor.shape)} has no place in the model{more}"
            )


class Fields:
    """A stored config, whose fields are taken one by one; :meth:`finish` refuses unknown ones.

    Args:
        checkpoint: Where from.
        config: Which of :data:`CONFIGS`.
    """

    def __init__(self, checkpoint: Checkpoint, config: str):
        self.checkpoint, self.config = checkpoint, config
        if config not in checkpoint.configs:
            raise checkpoint.refuse(f"{config} is missing: the tensors alone do not say enough")
        self._left = dict(checkpoint.configs[config])

    def take(self, name: str, kinds: tuple[type, ...], default: Any = _ABSENT) -> Any:
        """A value of one of the types; without a default it has to be there."""
        value = self._left.pop(name, default)
        if value is _ABSENT:
            raise self.checkpoint.refuse(f"{self.config}.{name} is missing")
        if value is not default and (
            not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)
        ):
            raise self.refuse(name, value, "is of another type than the study's")
        return value

    def must_be(self, name: str, wanted: Any, kinds: tuple[type, ...], default: Any) -> None:
        """Refuse a value that contradicts the tensors, or that is not supported."""
        value = self.take(name, kinds, default)
        if value != wanted:
            raise self.refuse(name, value, f"but {wanted!r} is what can be imported here")

    def refuse(self, name: str, value: Any, why: str) -> UserError:
        """The error for a value."""
        return self.checkpoint.refuse(f"{self.config}.{name} = {str(value)[:60]!r}: {why}")

    def finish(self, *ignored: str) -> None:
        """Refuse fields that were not taken, other than ``ignored`` ones, which do not change the model."""
        unknown = [name for name in self._left if name not in ignored]
        if unknown:
            raise self.checkpoint.refuse(
                f"{self.config}.{unknown[0]} is not a field that is known here, nor what it changes"
            )


@dataclass(frozen=True)
class Seen:
    """Where a model was trained, and in which form it read observations.

    Attributes:
        env: Gymnasium id. max_steps: Of an episode. one_hot: Whether observations came one-hot encoded.
    """

    env: str
    max_steps: int
    one_hot: bool


def seen_of(checkpoint: Checkpoint) -> Seen:
    """Read the environment's config.

    Raises:
        UserError: The model read something else than MiniGrid's 7x7 view.
    """
    fields = Fields(checkpoint, "environment_config")
    fields.must_be("fully_observed", False, (bool,), False)
    fields.must_be("img_obs", False, (bool,), False)
    fields.must_be("view_size", VIEW, (int,), VIEW)
    seen = Seen(
        env=fields.take("env_id", (str,)),
        max_steps=fields.take("max_steps", (int,), 1000),
        one_hot=fields.take("one_hot_obs", (bool,), False),
    )
    recording = ("capture_video", "video_dir", "video_frequency", "render_mode")
    fields.finish("seed", "device", "action_space", "observation_space", *recording)
    return seen


def digest_of(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        UserError: It cannot be read.
    """
    try:
        size_of(path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def read(path: Path) -> Checkpoint:
    """Read a checkpoint without running anything that is in it.

    Raises:
        UserError: It is not a checkpoint of a known form.
    """
    start = first_bytes(path, 9)
    # A safetensors file begins with the length of its JSON header; torch's are zip archives or pickles.
    tensors, texts = (_safetensors if start[8:] == b"{" else _torch)(path)
    odd = [k for k, v in tensors.items() if not (isinstance(k, str) and isinstance(v, Tensor))]
    if odd:
        raise UserError(f"{path.name}: {WEIGHTS_AT}: {str(odd[0])[:60]!r} is not a tensor by name")
    unknown = [str(name) for name in texts if name not in CONFIGS]
    if unknown:
        raise UserError(
            f"{path.name}: holds {unknown[0][:60]!r}, which no published checkpoint has"
        )
    return Checkpoint(path.name, tensors, {k: _json(path, k, v) for k, v in texts.items()})


def _torch(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    content = read_torch(path, path.name)
    if not isinstance(content, dict) or not isinstance(content.get(WEIGHTS_AT), dict):
        raise UserError(
            f"{path.name}: holds no {WEIGHTS_AT}, so it is no checkpoint of the studies"
        )
    return dict(content.pop(WEIGHTS_AT)), content


def _safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, {k: v for k, v in (file.metadata() or {}).items() if k != "format"}
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path.name}: not a readable safetensors file ({error})") from None


def _json(path: Path, name: str, value: Any) -> Mapping[str, Any]:
    """A stored config: a text with JSON, or the dictionary itself."""
    try:
        config = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise UserError(f"{path.name}: {name} is not a config in JSON")
    return config


def folded(parts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Weight and bias of one convolution that does what :func:`convolution`'s do in evaluation mode."""
    exact = {name: part.double() for name, part in parts.items()}
    factor = exact["scale"] / (exact["variance"] + 1e-5).sqrt()
    weight = exact["weight"] * factor[:, None, None, None]
    return weight.float(), ((exact["bias"] - exact["mean"]) * factor + exact["shift"]).float()


def convolution(
    taken: Taken, conv: str, norm: str, inputs: int | None, kernel: int
) -> dict[str, Tensor]:
    """A convolution's weight and bias, and its batch normalisation's scale, shift, mean and variance."""
    weight = taken.take(f"{conv}.weight", None, inputs, kernel, kernel)
    n = weight.shape[0]
    parts = {"weight": weight, "bias": taken.take(f"{conv}.bias", n)}
    names = {"scale": "weight", "shift": "bias", "mean": "running_mean", "variance": "running_var"}
    parts |= {ours: taken.take(f"{norm}.{theirs}", n) for ours, theirs in names.items()}
    if bool((parts["variance"] < 0).any()):
        raise taken.checkpoint.refuse(f"tensor {norm}.running_var holds a negative variance")
    taken.drop(f"{norm}.num_batches_tracked")
    return parts
