"""Names of a model's parts in configs, tables, figures and texts: ``L1H3``, ``L1N145``, ``L1 MLP``."""

from __future__ import annotations

import re
from typing import NamedTuple

HEAD, ATTENTION, MLP, NEURON = "head", "attention", "mlp", "neuron"
"""Kinds of parts: one head, all heads of a layer together, a layer's MLP, one of its neurons."""
FORMS = {HEAD: "L{}H{}", ATTENTION: "L{} attention", MLP: "L{} MLP", NEURON: "L{}N{}"}
"""How each kind is written."""

_NAME = re.compile(
    r"""\b(?:
    (?P<head>L\d+\ ?H\d+) | (?P<neuron>L\d+N\d+|MLP\d+(?:N|\ neuron\ )\d+)
    | (?P<mlp>L\d+\ MLP|MLP\d+) | (?P<attention>L\d+\ attn|L\d+\ attention|ATTN\d+|attention\ \d+)
    )\b(?!\.\d)""",
    re.VERBOSE,
)
"""The names of today, and those that results and configs from before 2026-11-30 have."""


class Part(NamedTuple):
    """A head, an attention's output, an MLP's output or a neuron; ``unit`` is 0 for an output."""

    layer: int
    kind: str
    unit: int = 0

    @property
    def name(self) -> str:
        """``L1H3``, ``L1 attention``, ``L1 MLP``, ``L1N145``."""
        return FORMS[self.kind].format(self.layer, self.unit)


def head_name(layer: int, head: int) -> str:
    """``L1H3``."""
    return Part(layer, HEAD, head).name


def attention_name(layer: int) -> str:
    """``L1 attention``."""
    return Part(layer, ATTENTION).name


def mlp_name(layer: int) -> str:
    """``L1 MLP``."""
    return Part(layer, MLP).name


def neuron_name(layer: int, neuron: int) -> str:
    """``L1N145``."""
    return Part(layer, NEURON, neuron).name


def part_of(name: str) -> Part | None:
    """The part with a name, in today's or an earlier spelling (``MLP1N145``, ``ATTN1``, ``L1 H3``).

    None if it is no part's name.
    """
    match = _NAME.fullmatch(name)
    return _part(match) if match else None


def renamed(text: str) -> str:
    """A text in which earlier spellings of names have become today's; what is no name stays.

    Figures of results that were recorded with earlier names are drawn with today's.
    """
    return _NAME.sub(lambda match: _part(match).name, text)


def _part(match: re.Match[str]) -> Part:
    layer, *unit = (int(number) for number in re.findall(r"\d+", match[0]))
    return Part(layer, str(match.lastgroup), *unit)
