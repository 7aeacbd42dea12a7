"""Convert a file of Stable-Baselines3 to an agent that acts in our rollouts, without unpickling.

A file is a zip: ``policy.pth`` holds the weights, which torch reads with ``weights_only``, and ``data`` is
JSON with pickles in it, each with a plain-text description. Only the text is read.

Axes: n environments · m memory (hidden and cell of the actor's layers, then of the critic's) · a actions.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from dtx.agent.network import MODEL, WEIGHTS
from dtx.agent.sb3.observation import Observation
from dtx.agent.sb3.spaces import (
    as_tensor,
    check,
    declared_by,
    describe,
    described,
    encoded,
    read_space,
)
from dtx.errors import UserError
from dtx.files import (
    MOST_BYTES,
    archive,
    first_bytes,
    parse_json,
    read_json,
    read_tensors,
    read_torch,
    taken_from,
)

if TYPE_CHECKING:
    from stable_baselines3.common.distributions import Distribution
    from stable_baselines3.common.policies import ActorCriticPolicy

COPY = "model.zip"
"""Name of the copy of a file that has to be unpickled."""
_ACTIVATIONS = ("Tanh", "ReLU", "ELU", "LeakyReLU", "GELU", "SiLU", "Sigmoid", "Mish", "Identity")
_NOT_FOR_ACTING = ("optimizer_class", "optimizer_kwargs", "ortho_init")
_MODULES = ("stable_baselines3.common.policies", "sb3_contrib.common.recurrent.policies")
_PLAIN_EXTRACTORS = ("FlattenExtractor", "CombinedExtractor")


class SB3Agent(nn.Module):
    """Acts with a policy of Stable-Baselines3.

    Args:
        policy: Of discrete actions.
    """

    def __init__(self, policy: ActorCriticPolicy):
        from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy

        super().__init__()
        actions = policy.action_space
        if not isinstance(actions, spaces.Discrete) or actions.start != 0:
            raise ValueError(f"its actions are {actions}; Discrete from 0 is wanted")
        self.policy = policy.to("cpu").eval()
        self._recurrent = policy if isinstance(policy, RecurrentActorCriticPolicy) else None
        self.n_actions = int(actions.n)

    @property
    def recurrent(self) -> bool:
        """Whether it remembers."""
        return self._recurrent is not None

    @property
    def memory_size(self) -> int:
        """Numbers that are remembered."""
        if self._recurrent is None:
            return 0
        layers, _, width = self._recurrent.lstm_hidden_state_shape
        return 4 * layers * width

    def initial_memory(self, n: int) -> Tensor:
        """The memory before an episode's first observation, (n, m) zeros."""
        return torch.zeros(n, self.memory_size)

    @torch.no_grad()
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
        # Policies take dictionaries too, but sb3_contrib's types say tensors only.
        seen = cast(Tensor, encoded(as_tensor(observations), self.policy.observation_space))
        policy = self._recurrent
        if policy is None:
            values = self.policy.predict_values(seen)
            return _logits(self.policy.get_distribution(seen)), values.squeeze(1), memory
        from sb3_contrib.common.recurrent.type_aliases import RNNStates

        n = len(memory)
        layers, _, width = policy.lstm_hidden_state_shape
        hidden = memory.view(n, 4, layers, width).permute(1, 2, 0, 3).contiguous()
        actor, critic = (hidden[0], hidden[1]), (hidden[2], hidden[3])
        begins = torch.zeros(n)  # the caller sets the memory to zero where an episode begins
        distribution, _ = policy.get_distribution(seen, actor, begins)
        _, values, _, after = policy(seen, RNNStates(actor, critic), begins, deterministic=True)
        after = torch.stack([*after.pi, *after.vf]).permute(2, 0, 1, 3).reshape(n, -1)
        return _logits(distribution), values.squeeze(1), after


def _logits(distribution: Distribution) -> Tensor:
    """(n, a), normalised."""
    chances = distribution.distribution
    assert isinstance(chances, torch.distributions.Categorical)
    return chances.logits


def is_sb3(file: Path) -> bool:
    """Whether a file was written by ``model.save`` of Stable-Baselines3."""
    if first_bytes(file, 2) != b"PK" or not zipfile.is_zipfile(file):
        return False
    with archive(file) as members:
        return {"data", "policy.pth", "_stable_baselines3_version"} <= set(members.namelist())


def convert(file: Path, out: Path, declared: Observation, unsafe_pickle: bool) -> SB3Agent:
    """Make the policy, compare it with what is declared, and write what :func:`load` reads.

    Raises:
        UserError: Something cannot be mapped, with the reason.
    """
    from safetensors.torch import save_file

    if unsafe_pickle:
        from dtx.text import say

        say(f"warning: unpickling {file} because of agent.unsafe_pickle=true")
        agent = _unpickled(file)
        check(agent.policy.observation_space, declared, file.name)
        shutil.copyfile(file, out / COPY)
        return agent
    data, weights = read(file)
    space = read_space(data["observation_space"], file.name)
    check(space, declared, file.name)
    actions = read_space(data["action_space"], file.name)
    if not isinstance(actions, spaces.Discrete) or actions.start != 0:
        raise UserError(f"{file}: its actions are {actions}; Discrete from 0 is wanted")
    described_policy = {
        "library": "stable-baselines3",
        "recurrent": "lstm_actor.weight_ih_l0" in weights,
        "observation_space": describe(space),
        "n_actions": int(actions.n),
        "arguments": _arguments(data, file.name),
    }
    agent = _made(described_policy, weights, file.name)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, out / WEIGHTS)
    (out / MODEL).write_text(json.dumps(described_policy, indent=1) + "\n")
    return agent


def load(folder: Path, unsafe_pickle: bool) -> SB3Agent:
    """Read what :func:`convert` wrote.

    Raises:
        UserError: It is damaged, or has to be unpickled and that is not allowed.
    """
    if (folder / COPY).exists():
        if not unsafe_pickle:
            raise UserError(
                f"{folder / COPY}: is a pickle; agent.unsafe_pickle=true if you trust it"
            )
        return _unpickled(folder / COPY)
    try:
        return _made(read_json(folder / MODEL), read_tensors(folder / WEIGHTS), folder.name)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder}: not a readable agent ({error})") from error


def read(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The plain part of ``data``, and the weights.

    Raises:
        UserError: It is no such file, or the policy is of a class of its own.
    """
    if not is_sb3(file):
        raise UserError(f"{file}: is no file that `model.save` of Stable-Baselines3 wrote")
    with archive(file) as members:
        data = _data(members, file)
        weights = _weights(members, file)
    with taken_from(file):
        module = str(data["policy_class"]["__module__"])
        if module not in _MODULES:
            raise UserError(
                f"{file}: its policy is of {module}; policies of PPO and RecurrentPPO can be read, or any "
                "such with agent.unsafe_pickle=true"
            )
    return data, weights


def _data(members: zipfile.ZipFile, file: Path) -> dict[str, Any]:
    """What describes the policy, as JSON."""
    with taken_from(file):
        about = members.getinfo("data")
        if about.file_size > MOST_BYTES:
            raise ValueError(f"data: {about.file_size:,} bytes are more than any has")
        data = parse_json(members.read(about), f"{file}, data")
        if not isinstance(data, dict):
            raise ValueError("data is no description")
        return data


def _weights(members: zipfile.ZipFile, file: Path) -> dict[str, Tensor]:
    with taken_from(file):
        weights = read_torch(io.BytesIO(members.read("policy.pth")), f"{file}, policy.pth")
        named = isinstance(weights, Mapping) and all(
            isinstance(k, str) and isinstance(v, Tensor) for k, v in weights.items()
        )
        if not named:
            raise ValueError("policy.pth holds no tensors by name")
        return dict(weights)


def observation_of(file: Path) -> Observation:
    """What a policy was trained on, from its observation space; the weights are not read.

    Raises:
        UserError: dtx has no such form.
    """
    with archive(file) as members, taken_from(file):
        space = _data(members, file)["observation_space"]
    return declared_by(read_space(space, file.name), file.name)


def _arguments(data: dict[str, Any], file: str) -> dict[str, Any]:
    """Arguments of the policy's class that matter for acting, as JSON."""
    arguments = {}
    for name, value in (data.get("policy_kwargs") or {}).items():
        if name in (":type:", ":serialized:", *_NOT_FOR_ACTING):
            continue
        is_class = re.fullmatch(r"<class '([\w.]+)'>", value) if isinstance(value, str) else None
        if name == "activation_fn" and is_class and is_class[1].startswith("torch.nn."):
            value = is_class[1].rpartition(".")[2]
            if value not in _ACTIVATIONS:
                raise UserError(
                    f"{file}: activation {value} is not among {', '.join(_ACTIVATIONS)}"
                )
        elif name == "features_extractor_class" and is_class:
            if is_class[1].rpartition(".")[2] not in _PLAIN_EXTRACTORS:
                raise UserError(
                    f"{file}: its policy has a features extractor of its own ({is_class[1]}), which only "
                    "unpickling brings: agent.unsafe_pickle=true, if you trust the file"
                )
            continue  # the default of the policy's class
        elif isinstance(value, str):
            raise UserError(
                f"{file}: policy_kwargs.{name} is {value[:80]}, which only unpickling brings: "
                "agent.unsafe_pickle=true, if you trust the file"
            )
        arguments[name] = value
    return arguments


def _made(plain: dict[str, Any], weights: dict[str, Tensor], file: str) -> SB3Agent:
    _packages()
    space = described(plain["observation_space"])
    arguments = dict(plain["arguments"])
    _refuse_sizes({**arguments, "n_actions": plain["n_actions"]}, weights, file)
    if "activation_fn" in arguments:
        arguments["activation_fn"] = getattr(nn, arguments["activation_fn"])
    with torch.random.fork_rng(devices=[]):  # its first weights are random, and are replaced
        kind = _policy_class(plain["recurrent"], isinstance(space, spaces.Dict))
        try:
            policy = kind(space, spaces.Discrete(plain["n_actions"]), lambda _: 0.0, **arguments)
            policy.load_state_dict(weights)
        except (RuntimeError, TypeError, ValueError, AssertionError) as error:
            line = " ".join(str(error).split())[:300]
            raise UserError(f"{file}: its weights do not fit its description: {line}") from error
    return SB3Agent(policy)


def _refuse_sizes(arguments: Mapping[str, Any], weights: Mapping[str, Tensor], file: str) -> None:
    """Refuse numbers of layers and widths that the weights cannot have, before they are built."""
    widest = max((n for tensor in weights.values() for n in tensor.shape), default=0)
    limits = {"n_lstm_layers": len(weights)}
    waiting: list[tuple[str, Any]] = list(arguments.items())
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += value.items()
        elif isinstance(value, list):
            waiting += [(name, inner) for inner in value]
        elif isinstance(value, int) and value > limits.get(name, widest):
            raise UserError(f"{file}: {name} is {str(value)[:30]}, which its weights do not have")


def _policy_class(recurrent: bool, dictionary: bool) -> type[ActorCriticPolicy]:
    if recurrent:
        from sb3_contrib.common.recurrent import policies as recurrent_policies

        if dictionary:
            return recurrent_policies.RecurrentMultiInputActorCriticPolicy
        return recurrent_policies.RecurrentActorCriticPolicy
    from stable_baselines3.common import policies

    return policies.MultiInputActorCriticPolicy if dictionary else policies.ActorCriticPolicy


def _unpickled(file: Path) -> SB3Agent:
    _packages()
    from sb3_contrib import RecurrentPPO
    from stable_baselines3 import PPO

    with archive(file) as members:
        names = _weights(members, file)
    kind = RecurrentPPO if "lstm_actor.weight_ih_l0" in names else PPO
    try:
        return SB3Agent(kind.load(file, device="cpu").policy)
    except Exception as error:  # unpickling brings any exception
        raise UserError(f"{file}: Stable-Baselines3 cannot load it: {error}") from error


def _packages() -> None:
    try:
        import sb3_contrib  # noqa: F401
        import stable_baselines3  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"agents of Stable-Baselines3 need a package: pip install 'dtx[sb3]' ({error})"
        ) from None
