"""How a model that reads text splits it: a text as tokens, and what they are called.

A model without a tokenizer is given the numbers of its tokens: ``3 17 5``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from threading import Lock
from typing import Any

import torch

from dtx.errors import UserError

_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
FIRST, LATER = KINDS = ("first", "later")
"""Kinds of tokens: many heads look at the first one whatever it is."""


class Vocabulary:
    """Of one model with TransformerLens's methods; it is asked from all lanes.

    Args:
        model: Its tokenizer is used, nothing else of it.

    Attributes:
        n_layers, n_heads: Of the model. n_steps: Tokens that it reads. size: Tokens that there are.
    """

    def __init__(self, model: Any):
        cfg = model.cfg
        self.n_layers, self.n_heads, self.n_steps = cfg.n_layers, cfg.n_heads, cfg.n_ctx
        self.size = cfg.d_vocab
        self._model = model
        self._lock = Lock()  # a tokenizer works for one thread at a time

    def ids(self, text: str) -> tuple[list[int], str]:
        """The tokens of a text, with the one that stands before every text if the model has such.

        Returns:
            At least one token, at most as many as the model reads; and what was wrong with the text, else "".
        """
        problem = ""
        if self._model.tokenizer is None:
            words = text.replace(",", " ").split()
            found = [int(word) for word in words if self._is_number(word)]
            if len(found) < len(words):
                problem = (
                    f"has what is no token: without a tokenizer, numbers below {self.size} are read"
                )
        else:
            with self._lock:
                found = self._model.to_tokens(text, truncate=False)[0].tolist()
        if len(found) > self.n_steps:
            problem = f"has {len(found)} tokens; the model reads at most {self.n_steps}"
        if not found:
            problem = problem or "is empty; token 0 is read"
        return found[: self.n_steps] or [0], problem

    def strings(self, ids: Sequence[int]) -> list[str]:
        """What tokens stand for, each by itself."""
        if self._model.tokenizer is None:
            return [str(number) for number in ids]
        with self._lock:
            return [self._model.tokenizer.decode([number]) for number in ids]

    def number(self, name: str) -> int:
        """The token that is called so: its text, with the space before it, or its number after ``#``.

        Raises:
            UserError: It is no token, or several.
        """
        number = name.removeprefix("#")
        if self._is_number(number) and (name != number or self._model.tokenizer is None):
            return int(number)
        if self._model.tokenizer is None:
            raise UserError(f"{name!r} is no token; a number below {self.size} is wanted")
        with self._lock:
            found = self._model.tokenizer.encode(name, add_special_tokens=False)
        if len(found) != 1:
            raise UserError(
                f"{name!r} is {len(found)} tokens; one is wanted, with its space before it"
            )
        return found[0]

    def names(self, ids: Sequence[int]) -> tuple[str, ...]:
        """Names of outputs: what they stand for, with the number where two stand for the same."""
        strings = self.strings(ids)
        return tuple(
            text if strings.count(text) == 1 and text else f"#{number}"
            for text, number in zip(strings, ids, strict=True)
        )

    def _is_number(self, word: str) -> bool:
        return bool(_NUMBER.fullmatch(word)) and int(word) < self.size


def reads_text(model: Any) -> bool:
    """Whether a model is one of TransformerLens's that reads tokens."""
    return isinstance(model, torch.nn.Module) and {"run_with_cache", "to_tokens"} <= set(dir(model))


def token_names(strings: Sequence[str]) -> tuple[str, ...]:
    """A name for every token of a prompt, counted from 1: ``2 cat``."""
    return tuple(f"{place} {text.strip()}".rstrip() for place, text in enumerate(strings, 1))
