"""What a panel may ask of a model at a scene, whether the model acts in a world or reads text.

A panel that uses nothing else shows both. :class:`dtx.app.moment.Moment` is the subject of a Decision
Transformer or clone, :class:`dtx.app.prompt.Prompt` that of any model with TransformerLens's hooks.

Letters: n tokens, d model, a outputs (actions, or the likeliest tokens), e edits, b sides.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from dtx.dt.tokens import NamedTokens

if TYPE_CHECKING:
    from dtx.analysis.activation_patching.sweep import NodeSweep
    from dtx.analysis.attribution.compute import Attributed
    from dtx.analysis.core.patching_spec import Direction, Node
    from dtx.analysis.steering.edits import ActivationEdit
    from dtx.analysis.steering.spec import Tokens


class Sizes(Protocol):
    """What every model's config says."""

    n_layers: int
    n_heads: int
    reward_to_go: bool


class Reading(ABC):
    """One input as a model reads it, up to the cursor.

    Attributes:
        name: ``original`` or ``edited``.
        tokens: Their names and kinds.
        wanted: Names of activations to keep when a forward pass is made.
    """

    def __init__(self, name: str, tokens: NamedTokens):
        self.name, self.tokens = name, tokens
        self.wanted: set[str] = set()
        self._known: dict[str, Tensor] = {}
        self._logits: Tensor | None = None

    @property
    def logits(self) -> Tensor:
        """(a,) at the last token."""
        if self._logits is None:
            if self.wanted:
                self.activations(())
            else:
                self._logits = self._run_alone()
        assert self._logits is not None
        return self._logits

    @property
    def entropy(self) -> float:
        """Of the model's distribution at the last token, in nats."""
        return entropy(self.logits)

    def activations(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Activations (1, n, ...) by hook name; one forward pass keeps all that panels said they want.

        Raises:
            UserError: A name is no activation that is computed.
        """
        names = set(names)
        if not names <= self._known.keys() or self._logits is None:
            logits, cache = self._run(names | self.wanted)
            self._known |= cache
            self._logits = logits
        return {name: self._known[name] for name in names}

    @abstractmethod
    def where(self, tokens: Tokens) -> Tensor:
        """Which tokens are meant, (1, n) bool.

        Raises:
            UserError: The model has no such tokens.
        """

    @abstractmethod
    def _run_alone(self) -> Tensor:
        """Logits (a,) at the last token, and nothing else."""

    @abstractmethod
    def _run(self, names: set[str]) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Logits (a,) at the last token, and activations."""


class Subject(ABC):
    """A model at a scene.

    Attributes:
        model: Without hooks of its own; whoever adds some removes them. TransformerLens's names.
        original: Up to the cursor. edited: None where there is no other input to compare with.
        contrast: Places of the two outputs whose logits are compared, LD = first - second.
        actions: Names of the outputs.
        stop: Whether nobody waits for the answer any more; long work asks it between batches.
        kinds: Of tokens, in the order in which attention is summed over them.
        has_world: Whether it acts in a world. has_decision: Whether that world names its decision.
    """

    model: Any
    original: Reading
    edited: Reading | None
    contrast: tuple[int, int]
    actions: tuple[str, ...]
    stop: Callable[[], bool]
    kinds: tuple[str, ...]
    has_world: bool
    has_decision: bool

    @property
    @abstractmethod
    def cfg(self) -> Sizes:
        """The model's config."""

    @property
    @abstractmethod
    def gap(self) -> float:
        """Smallest difference of LD between both sides at which a share of it means something."""

    @property
    @abstractmethod
    def points(self) -> dict[str, str]:
        """Points of the residual stream in order: name and hook."""

    @property
    def sides(self) -> dict[str, Any]:
        """Those that are there, by name."""
        return {s.name: s for s in (self.original, self.edited) if s is not None}

    def want(self, names: Iterable[str]) -> None:
        """Keep these activations too when a forward pass is made."""
        for side in self.sides.values():
            side.wanted |= set(names)

    def ld(self, logits: Tensor) -> Tensor:
        """The logit difference (...) of logits (..., a)."""
        positive, negative = self.contrast
        return logits[..., positive] - logits[..., negative]

    @abstractmethod
    def read(self, resid: Tensor) -> Tensor:
        """Logits (..., a) that the last LayerNorm and the unembedding read in a stream (..., d)."""

    @abstractmethod
    def sweep(self, node: Node, direction: Direction, at_once: int) -> NodeSweep:
        """Patches of one kind of node between both sides, at every token.

        Raises:
            UserError: There is no pair; says why.
        """

    @abstractmethod
    def attributed(self, random_directions: int, seed: int) -> Attributed:
        """LD of each side, a row each, in parts that add up to it, and the same of random directions."""

    @abstractmethod
    def log_p(self, edits: Sequence[ActivationEdit]) -> Tensor:
        """Log-probabilities (e, b, a) at the last token of each side under each edit."""


def entropy(logits: Tensor) -> float:
    """Of the distribution of logits (a,), in nats."""
    log_p = logits.double().log_softmax(-1)
    return float(-(log_p.exp() * log_p.clamp(min=-1e30)).sum())
