"""Kinds of network parts that a config can choose; in their own file, so that planning needs no torch."""

from __future__ import annotations

import enum


class Encoder(enum.Enum):
    """How an observation becomes a vector: ``linear`` on the one-hot, or ``conv`` as BabyAI's."""

    linear = "linear"
    conv = "conv"


class Recurrence(enum.Enum):
    """The kind of memory."""

    lstm = "lstm"
    gru = "gru"
