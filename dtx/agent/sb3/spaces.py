"""How dtx's observations become those that a policy of Stable-Baselines3 was trained on."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from dtx.agent.sb3.observation import Observation
from dtx.env import encoding
from dtx.errors import UserError

_MOST = 1_000_000
"""Numbers of an observation."""
SHAPES = {
    Observation.one_hot: ((encoding.SIZE,),),
    Observation.indices: ((encoding.ACTIVE,),),
    # Stable-Baselines3 puts the channels of an image first when it makes the policy.
    Observation.image: ((encoding.VIEW, encoding.VIEW, 3), (3, encoding.VIEW, encoding.VIEW)),
}
"""Shapes of the spaces that a policy may have, by form."""


class OneHot(gymnasium.ObservationWrapper):
    """The flattened one-hot of a MiniGrid view, to train a policy with ``observation: one_hot``.

    Args:
        env: Whose observation is MiniGrid's dictionary.
    """

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        self.observation_space = spaces.Box(0, 1, (encoding.SIZE,), np.uint8)

    def observation(self, observation: Mapping[str, Any]) -> np.ndarray:
        """(980,) uint8."""
        return encoding.flatten(encoding.one_hot(observation["image"]))


def form_of(space: spaces.Space) -> Observation | None:
    """The form that a space has; None if dtx has no such form."""
    if isinstance(space, spaces.Dict):
        inner = space.spaces.get("image")
        known = set(space.spaces) == {"image"} and inner is not None and form_of(inner) is not None
        return Observation.dict if known else None
    return next((form for form, shapes in SHAPES.items() if space.shape in shapes), None)


def check(space: spaces.Space, declared: Observation, file: str) -> None:
    """Compare the declared form with the policy's space.

    Raises:
        UserError: They differ, with what is there.
    """
    if form_of(space) is declared:
        _check_numbers(space, file)
        return
    _check_dictionary(space, file)
    other = form_of(space)
    advice = f"agent.observation={other.value}" if other else "such a policy cannot be used"
    raise UserError(
        f"{file}: agent.observation is {declared.value}, but its policy reads {_text(space)}: {advice}"
    )


def declared_by(space: spaces.Space, file: str) -> Observation:
    """The form that a policy's space has.

    Raises:
        UserError: dtx has no such form; the message names those that it has.
    """
    _check_numbers(space, file)
    if (form := form_of(space)) is not None:
        return form
    _check_dictionary(space, file)
    raise UserError(
        f"{file}: its policy reads {_text(space)}; dtx can show it one_hot ({encoding.SIZE} numbers), "
        f"indices ({encoding.ACTIVE} numbers), image (7x7x3), or dict (one of these as `image`)"
    )


def _check_numbers(space: spaces.Space, file: str) -> None:
    """Refuse a space of the right shape whose numbers are not those that rollouts give."""
    if isinstance(space, spaces.Dict):
        for inner in space.spaces.values():
            _check_numbers(inner, file)
        return
    form = form_of(space)
    if form is None or not isinstance(space, spaces.Box):
        return
    low, high = float(space.low.min()), float(space.high.max())
    most = 1 if form is Observation.one_hot else encoding.LARGEST
    if low != 0 or not most <= high <= 255:
        raise UserError(
            f"{file}: its policy reads numbers from {low:g} to {high:g}, but {form.value} holds 0 to {most}: "
            "it was trained on other numbers, such as those of VecNormalize, whose statistics are not in "
            "the file; train it without"
        )


def _check_dictionary(space: spaces.Space, file: str) -> None:
    if isinstance(space, spaces.Dict) and (more := sorted(set(space.spaces) - {"image"})):
        raise UserError(
            f"{file}: its policy reads {more[0]!r} beside the image, which rollouts do not have"
        )


def encoded(observations: Tensor, space: spaces.Space) -> Tensor | dict[str, Tensor]:
    """(n, 7, 7, 3) uint8 as the policy's space has it, before its own scaling."""
    if isinstance(space, spaces.Dict):
        inner = encoded(observations, space.spaces["image"])
        assert isinstance(inner, Tensor)
        return {"image": inner}
    form = form_of(space)
    if form is Observation.one_hot:
        return encoding.flat_one_hot(observations)
    if form is Observation.indices:
        return observations.flatten(1)
    return (
        observations.permute(0, 3, 1, 2)
        if space.shape == SHAPES[Observation.image][1]
        else observations
    )


def read_space(text: Mapping[str, Any], file: str) -> spaces.Space:
    """A space from the plain text that Stable-Baselines3 writes beside its pickle.

    Raises:
        UserError: The text cannot be understood.
    """
    kind = re.search(r"gymnasium\.spaces\.\w+\.(\w+)'", str(text.get(":type:")))
    try:
        if kind and kind[1] == "Discrete":
            return spaces.Discrete(int(text["n"]), start=int(text["start"]))
        if kind and kind[1] == "Box":
            low, high = min(_numbers(text["low"])), max(_numbers(text["high"]))
            return _box(low, high, text["_shape"], text["dtype"])
        if kind and kind[1] == "Dict":
            box = r"'(\w+)': Box\(([-+.\w]+), ([-+.\w]+), \(([\d, ]*)\), (\w+)\)"
            parts = re.findall(box, text["spaces"])
            if parts and len(parts) == len(re.findall(r"'\w+': ", text["spaces"])):
                return spaces.Dict(
                    {n: _box(a, b, re.findall(r"\d+", s), d) for n, a, b, s, d in parts}
                )
    except (KeyError, ValueError, TypeError):
        pass
    what = text.get("spaces") or text.get(":type:")
    raise UserError(f"{file}: a space that dtx does not understand: {str(what)[:150]}")


def describe(space: spaces.Space) -> dict[str, Any]:
    """As JSON; :func:`described` reads it."""
    if isinstance(space, spaces.Dict):
        return {name: describe(inner) for name, inner in space.spaces.items()}
    assert isinstance(space, spaces.Box)
    low, high = float(space.low.min()), float(space.high.max())
    return {"low": low, "high": high, "shape": list(space.shape), "dtype": str(space.dtype)}


def described(plain: Mapping[str, Any]) -> spaces.Space:
    """The space that :func:`describe` described."""
    if "dtype" in plain:
        return _box(plain["low"], plain["high"], plain["shape"], plain["dtype"])
    return spaces.Dict({name: described(inner) for name, inner in plain.items()})


def _numbers(printed: str) -> list[float]:
    """The numbers of a printed numpy array; a large one is abbreviated."""
    return [float(word) for word in re.sub(r"[\[\],]|\.\.\.", " ", printed).split()]


def _box(low: float | str, high: float | str, shape: Iterable[int | str], dtype: str) -> spaces.Box:
    kind = np.dtype(dtype).type
    sizes = tuple(int(size) for size in shape)
    if np.dtype(dtype).kind not in "biuf" or math.prod(sizes) > _MOST:
        raise ValueError(f"a box of {sizes} {dtype}")
    return spaces.Box(kind(float(low)), kind(float(high)), sizes, kind)


def _text(space: spaces.Space) -> str:
    return f"{type(space).__name__} {space.shape or ''}".strip()


def as_tensor(observations: Tensor | np.ndarray) -> Tensor:
    """(n, 7, 7, 3) uint8 in torch."""
    return torch.as_tensor(observations)
