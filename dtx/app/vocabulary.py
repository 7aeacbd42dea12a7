"""How a model that reads text splits it: a text as tokens, and what they are called.

A model without a tokenizer is given the numbers of its tokens: ``3 17 5``.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any

import torch

from dtx.errors import UserError

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

    def ids(self, text: str) -> list[int]:
        """The tokens of a prompt, with the one that stands before every text if the model has such.

        Raises:
            UserError: There is none, there are more than the model reads, or one is no number of a token.
        """
        if self._model.tokenizer is None:
            found = self._numbers(text)
        else:
            with self._lock:
                found = self._model.to_tokens(text, truncate=False)[0].tolist()
        if not found:
            raise UserError("there is no token to read: type a text")
        if len(found) > self.n_steps:
            raise UserError(f"has {len(found)} tokens; the model reads at most {self.n_steps}")
        return found

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
        if name != number or self._model.tokenizer is None:
            (found,) = self._numbers(number)[:1] or [None]
            if found is None or len(number.split()) != 1:
                raise UserError(f"{name!r} is no token; a number below {self.size} is wanted")
            return found
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

    def _numbers(self, text: str) -> list[int]:
        words = text.replace(",", " ").split()
        for word in words:
            if not (word.isascii() and word.isdigit() and len(word) < 10 and int(word) < self.size):
                raise UserError(
                    f"{word[:20]!r} is no token: the model has no tokenizer, so numbers below {self.size} are wanted"
                )
        return [int(word) for word in words]


def reads_text(model: Any) -> bool:
    """Whether a model is one of TransformerLens's that reads tokens."""
    return isinstance(model, torch.nn.Module) and {"run_with_cache", "to_tokens"} <= set(dir(model))


def token_names(strings: Sequence[str]) -> tuple[str, ...]:
    """A name for every token of a prompt, counted from 1: ``2 cat``."""
    return tuple(f"{place} {text.strip()}".rstrip() for place, text in enumerate(strings, 1))
