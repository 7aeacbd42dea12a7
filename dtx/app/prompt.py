"""What a panel computes from where a model reads text: one prompt, or two of equal length.

The model is any with TransformerLens's hooks: ``HookedTransformer`` of its versions 3, ``TransformerBridge``
of its versions 4.

Letters: n tokens, v tokens that there are, a likeliest tokens and all others together, d model, b prompts,
e edits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dtx.analysis.activation_patching.by_hooks import HookSweep
from dtx.analysis.attribution.by_hooks import attribute, final_norm
from dtx.analysis.attribution.compute import Attributed
from dtx.analysis.core.patching_spec import EDIT, NULL, Direction, Node, hook_of
from dtx.analysis.lens.streams import point_names
from dtx.analysis.steering.edits import ActivationEdit, residual
from dtx.analysis.steering.spec import Tokens
from dtx.app.scene import Message, Scene
from dtx.app.subject import Reading, Subject, entropy
from dtx.app.vocabulary import FIRST, KINDS, LATER, Vocabulary, token_names
from dtx.dt.tokens import NamedTokens
from dtx.errors import UserError
from dtx.pairs.pair_set import PairBatch

LIKELIEST = 10
"""Tokens of each prompt that are shown as outputs."""
OTHERS = "other tokens"
"""The last output: all that are not shown, together."""
GAP = 0.5
"""Smallest difference of LD between two prompts at which a share of it means something."""
ONLY_IN_A_WORLD = "this needs a model that acts in a world; this one reads text"
_OF_WORLDS = ("place", "played", "environment", "roles", "world", "pair", "run", "context")


@dataclass(frozen=True)
class Prompts:
    """Both prompts of a scene as one model splits them.

    Attributes:
        original: Numbers of its tokens. edited: Of the other prompt; None without one that can be compared.
        impossible: Why there is none though one was asked for, else "".
        cursor: Token after which the outputs are looked at, from 1.
    """

    vocabulary: Vocabulary
    texts: tuple[str, str]
    original: tuple[int, ...]
    edited: tuple[int, ...] | None
    impossible: str
    cursor: int

    def shown(self) -> dict[str, Any]:
        """What the page draws of both prompts: the ``play`` part of an answer."""
        pairs = zip(("original", "edited"), (self.original, self.edited), self.texts, strict=True)
        names = self.names(self.original)
        edited = self.edited or self.original
        differ = [name for i, name in enumerate(names) if self.original[i] != edited[i]]
        return {
            "kind": "tokens",
            "env": "",
            **{side: None if ids is None else self._side(ids, text) for side, ids, text in pairs},
            "impossible": self.impossible or None,
            "changed": [name for name in differ if name in names[: self.cursor]],
            "same_length": True,
            "cursor": self.cursor,
            "n_ctx": self.vocabulary.n_steps,
        }

    def names(self, ids: Sequence[int]) -> tuple[str, ...]:
        """Names of the tokens of a prompt."""
        return token_names(self.vocabulary.strings(ids))

    def _side(self, ids: Sequence[int], text: str) -> dict[str, Any]:
        strings = self.vocabulary.strings(ids)
        return {"text": text, "strings": strings, "tokens": list(token_names(strings))}


def prompts(scene: Scene, vocabulary: Vocabulary, told: list[Message]) -> Prompts:
    """The prompts of a scene, as far as the model can read them."""
    original, problem = vocabulary.ids(scene.text)
    if problem:
        told.append(Message("text", problem))
    edited, impossible = None, ""
    if scene.edited_text:
        edited, problem = vocabulary.ids(scene.edited_text)
        if problem:
            impossible = f"the edited text {problem}"
        elif len(edited) != len(original):
            impossible = (
                f"the texts have {len(original)} and {len(edited)} tokens; a pair is two prompts of equal "
                "length"
            )
    if impossible:
        edited = None
    cursor = len(original) if scene.cursor is None else min(scene.cursor, len(original))
    if scene.cursor is not None and scene.cursor > cursor:
        told.append(Message("cursor", f"there are {cursor} tokens; the last is shown"))
    texts = (scene.text, scene.edited_text)
    pair = None if edited is None else tuple(edited)
    return Prompts(vocabulary, texts, tuple(original), pair, impossible, cursor)


@dataclass(frozen=True)
class Shape:
    """What panels ask of a model's config."""

    n_layers: int
    n_heads: int
    reward_to_go: bool = False


class _OnlyText:
    """Says in one line that something needs a world."""

    def __getattr__(self, name: str) -> Any:
        if name in _OF_WORLDS:
            raise UserError(ONLY_IN_A_WORLD)
        raise AttributeError(name)


class PromptSide(_OnlyText, Reading):
    """One prompt as a model reads it, up to the cursor.

    Attributes:
        ids: (1, n) numbers of its tokens.
    """

    def __init__(self, name: str, ids: Sequence[int], names: Sequence[str], subject: Prompt):
        kinds = np.array([FIRST, *[LATER] * (len(ids) - 1)])
        super().__init__(name, NamedTokens(tuple(names), kinds))
        self.ids = torch.tensor([list(ids)])
        self._subject = subject
        self._all: Tensor | None = None

    @property
    def all_logits(self) -> Tensor:
        """(v,) at the last token."""
        if self._all is None:
            self._forward(self.wanted)
        assert self._all is not None
        return self._all

    @property
    def entropy(self) -> float:
        """Of the distribution over all tokens, in nats."""
        return entropy(self.all_logits)

    def where(self, tokens: Tokens) -> Tensor:
        """The last token stands for the last state, the first for the first one."""
        place = torch.arange(self.ids.shape[1])
        last = self.ids.shape[1] - 1
        known = {
            Tokens.last_state: place == last,
            Tokens.first_state: place == 0,
            Tokens.all: place >= 0,
        }
        if tokens not in known:
            names = ", ".join(each.value for each in known)
            raise UserError(f"tokens: a text has no {tokens.value}; {names} are there")
        return known[tokens][None]

    def _run_alone(self) -> Tensor:
        return self._subject.outputs(self.all_logits)

    def _run(self, names: set[str]) -> tuple[Tensor, Mapping[str, Tensor]]:
        asked = names - self._known.keys()
        if asked or self._all is None:
            self._forward(asked)
        if missing := names - self.wanted - self._known.keys():
            raise UserError(f"the model has no activation {min(missing)}")
        return self._run_alone(), {}

    def _forward(self, names: set[str]) -> None:
        """One run, from which activations are kept; those that the model lacks are wanted by nobody here."""
        model = self._subject.model
        names = names & model.hook_dict.keys()
        with torch.no_grad():
            logits, cache = model.run_with_cache(self.ids, names_filter=sorted(names))
        self._known |= {name: cache[name] for name in names if name in cache}
        self._all = logits[0, -1]


class Prompt(_OnlyText, Subject):
    """A model that reads text, at a token of a scene.

    Args:
        model: With TransformerLens's hooks; without hooks of its own.
        prompts: As this model splits them.
        scene: As understood; its contrast names two tokens, or None.
        stop: See :class:`Subject`.
    """

    original: PromptSide
    edited: PromptSide | None
    kinds = KINDS
    has_world = has_decision = False
    data = None

    def __init__(
        self, model: Any, prompts: Prompts, scene: Scene, stop: Callable[[], bool] = lambda: False
    ):
        self.model, self.prompts, self.scene, self.stop = model, prompts, scene, stop
        self.original = self._side("original", prompts.original)
        self.edited = None if prompts.edited is None else self._side("edited", prompts.edited)

    def _side(self, name: str, ids: Sequence[int]) -> PromptSide:
        names, end = self.prompts.names(self.prompts.original), self.prompts.cursor
        return PromptSide(name, ids[:end], names[:end], self)

    @property
    def gap(self) -> float:
        """The same for all prompts."""
        return GAP

    @property
    def cfg(self) -> Shape:
        """The model's sizes."""
        return Shape(self.model.cfg.n_layers, self.model.cfg.n_heads)

    @cached_property
    def compared(self) -> tuple[int, int]:
        """The two tokens of which LD = logit[first] - logit[second].

        Those of the scene; else the likeliest of the original and the likeliest other of the edited prompt.
        """
        if self.scene.contrast is not None:
            first, second = map(self.prompts.vocabulary.number, self.scene.contrast)
            return first, second
        first = int(self.original.all_logits.argmax())
        other = (self.edited or self.original).all_logits.clone()
        other[first] = -torch.inf
        return first, int(other.argmax())

    @cached_property
    def tokens(self) -> list[int]:
        """The tokens that are shown as outputs: the likeliest of both prompts, and those compared."""
        both = [side.all_logits for side in self.sides.values()]
        count = min(LIKELIEST, len(both[0]))
        likeliest = [int(token) for logits in both for token in logits.topk(count).indices]
        return list(dict.fromkeys([*likeliest, *self.compared]))

    @property
    def actions(self) -> tuple[str, ...]:
        """What the tokens stand for, and all others together."""
        others = (OTHERS,) if self._more else ()
        return (*self.prompts.vocabulary.names(self.tokens), *others)

    @property
    def _more(self) -> bool:
        """Whether there are tokens that are not shown."""
        return len(self.tokens) < self.prompts.vocabulary.size

    @property
    def contrast(self) -> tuple[int, int]:
        """Places of the compared tokens among the outputs."""
        first, second = self.compared
        return self.tokens.index(first), self.tokens.index(second)

    @property
    def points(self) -> dict[str, str]:
        """Those that the model has: there is none between where attention and MLP work side by side."""
        layers, parts = range(self.cfg.n_layers), ("mid", "post")
        inner = [f"blocks.{layer}.hook_resid_{part}" for layer in layers for part in parts]
        every = zip(point_names(self.cfg.n_layers), [residual(0), *inner], strict=True)
        return {name: hook for name, hook in every if hook in self.model.hook_dict}

    def outputs(self, logits: Tensor) -> Tensor:
        """Logits (..., a) of logits (..., v); the last one is of all others together.

        A softmax over them is the model's own.
        """
        if not self._more:
            return logits[..., self.tokens]
        rest = logits.clone()
        rest[..., self.tokens] = -torch.inf
        return torch.cat([logits[..., self.tokens], rest.logsumexp(-1, keepdim=True)], -1)

    def read(self, resid: Tensor) -> Tensor:
        """Logits (..., a) that the last LayerNorm and the unembedding read in a stream (..., d)."""
        rows = resid.reshape(1, -1, resid.shape[-1])  # both want (batch, token, d)
        logits = self.model.unembed(final_norm(self.model)(rows))
        return self.outputs(logits.reshape(*resid.shape[:-1], -1))

    def sweep(self, node: Node, direction: Direction, at_once: int) -> HookSweep:
        """Of both prompts, and of the original with itself; other prompts as donors there are none."""
        pair = self._pair()
        sweep = HookSweep(self.model, pair, self.gap, direction, (node,), at_once, self.stop)
        value = sweep.runs.base.get(hook_of(0, node.value))
        if value is None:
            raise UserError(f"node: the model has no {node.value}")
        if node.each_head and value.shape[1 if node is Node.pattern else 2] != self.cfg.n_heads:
            raise UserError(
                f"node: heads of this model share their {node.value}; q and z are of one head each"
            )
        return sweep

    def _pair(self) -> PairBatch:
        if self.edited is None:
            raise UserError(self.prompts.impossible or "there is no edited text to compare with")
        original, edited = self.original.ids, self.edited.ids
        clean, corrupt = torch.cat([original, original]), torch.cat([original, edited])
        row = {"variant": "text", "reward_to_go": np.nan, "edit_as": "", "changed": ""}
        table = pd.DataFrame(
            [{"pair": i, "edit": kind, "kind": kind} | row for i, kind in enumerate((NULL, EDIT))]
        )
        positive, negative = (torch.full((2,), token) for token in self.compared)
        return PairBatch(
            table,
            clean,
            corrupt,
            clean != corrupt,
            positive,
            negative,
            torch.full((2,), -1),
            {},
            list(self.original.tokens.names),
        )

    @torch.no_grad()
    def log_p(self, edits: Sequence[ActivationEdit]) -> Tensor:
        """(e, b, a): one run with all edits of a prompt as rows."""
        found = []
        for side in self.sides.values():
            rows = side.ids.expand(len(edits), -1)
            hooks = [
                (hook, self._adding([edit if edit.hook == hook else None for edit in edits], side))
                for hook in dict.fromkeys(edit.hook for edit in edits)
            ]
            logits = self.model.run_with_hooks(rows, fwd_hooks=hooks)[:, -1]
            found.append(self.outputs(logits.log_softmax(-1)))
        return torch.stack(found, 1)

    @staticmethod
    def _adding(edits: Sequence[ActivationEdit | None], side: PromptSide) -> Callable[..., Tensor]:
        def add(value: Tensor, hook: Any = None) -> Tensor:
            value = value.clone()
            for row, edit in enumerate(edits):
                if edit is not None:
                    if edit.vector is None:
                        raise UserError(ONLY_IN_A_WORLD)
                    value[row, side.where(edit.tokens)[0]] += edit.alpha * edit.vector
            return value

        return add

    def attributed(self, random_directions: int, seed: int) -> Attributed:
        """By the last LayerNorm's scale as it is in the run; to the rounding of the model's own numbers."""
        tokens = torch.cat([side.ids for side in self.sides.values()])
        return attribute(self.model, tokens, self.compared, random_directions, seed)
