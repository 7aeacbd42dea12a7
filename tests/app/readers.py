"""Tiny models that read text, with random weights: of TransformerLens 3 or 4, whichever is here."""

from __future__ import annotations

import functools
import tempfile
from typing import Any

import pytest
import torch

pytest.importorskip("transformer_lens", reason="an extra")

WORDS = (
    "<|end|>",
    "The",
    " cat",
    " dog",
    " sat",
    " on",
    " the",
    " mat",
    ".",
    " a",
    " big",
    " Mary-Ann",
)
SIZES: dict[str, Any] = {
    "n_layers": 2, "d_model": 16, "n_ctx": 12, "d_head": 8, "n_heads": 2, "d_mlp": 24, "act_fn": "gelu",
    "d_vocab": 40, "normalization_type": "LN", "seed": 0,
}  # fmt: skip


def reader(tokens: Any = None, **changes: Any) -> Any:
    """A model, with noise on all weights so that no bias and no gain is the one it begins with."""
    model = _made(SIZES | changes, tokens)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def _made(values: dict[str, Any], tokens: Any) -> Any:
    try:
        from transformer_lens import TransformerBridge, TransformerBridgeConfig
    except ImportError:
        from transformer_lens import HookedTransformer, HookedTransformerConfig

        return HookedTransformer(HookedTransformerConfig(**values), tokenizer=tokens)
    return TransformerBridge.boot_native(TransformerBridgeConfig(**values), tokenizer=tokens)


@functools.cache
def tokenizer() -> Any:
    """One token a word, with the space before it."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    end = WORDS[0]
    words = {word: number for number, word in enumerate(WORDS)}
    split = Tokenizer(models.WordLevel(words, unk_token=end))
    split.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[^ .]+|\."), "isolated")
    special = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), end)
    made = PreTrainedTokenizerFast(tokenizer_object=split, **special)
    folder = tempfile.TemporaryDirectory(prefix="dtx-tokenizer-")
    _kept.append(folder)  # TransformerLens reads it again from where it was read
    made.save_pretrained(folder.name)
    return PreTrainedTokenizerFast.from_pretrained(folder.name)


_kept: list[tempfile.TemporaryDirectory] = []
