"""Forms of an observation that a policy of Stable-Baselines3 can have been trained on."""

from __future__ import annotations

import enum


class Observation(enum.Enum):
    """Form of a policy's observation; conf/agent/sb3.yaml describes each."""

    one_hot = "one_hot"
    indices = "indices"
    image = "image"
    dict = "dict"
