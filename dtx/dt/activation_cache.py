"""Activations of a forward pass by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from dtx.errors import UnknownName, UserError
from dtx.text import suggest

if TYPE_CHECKING:
    from dtx.dt.model import DecisionTransformerModel


class ActivationCache(Mapping[str, Tensor]):
    """Activations by the name of their point, or in short: ``cache["pattern", 0]`` of block 0.

    Args:
        values: By name, ``blocks.0.attn.hook_pattern``.
        model: Whose they are.
    """

    def __init__(self, values: Mapping[str, Tensor], model: DecisionTransformerModel):
        self.cache_dict, self.model = dict(values), model

    def __getitem__(self, name: str | tuple[str, int]) -> Tensor:
        """An activation.

        Raises:
            UserError: It was not kept, or there is none of that name.
        """
        known = self.cache_dict
        wanted = [name] if isinstance(name, str) else self._full(*name)
        for one in (*wanted, *(f"hook_{one}" for one in wanted)):
            if one in known:
                return known[one]
        raise UnknownName(f"no activation {name!r} was kept{suggest(wanted[0], list(known))}")

    def __iter__(self) -> Iterator[str]:
        return iter(self.cache_dict)

    def __len__(self) -> int:
        return len(self.cache_dict)

    def __repr__(self) -> str:
        return f"ActivationCache of {len(self)} activations: {', '.join(list(self)[:3])}, ..."

    def transformer_lens(self) -> Any:
        """The same as TransformerLens's ``ActivationCache``: ``decompose_resid``, ``logit_attrs``, ...

        Raises:
            UserError: TransformerLens is not installed.
        """
        try:
            from transformer_lens import ActivationCache as Theirs
        except ImportError:
            raise UserError(
                "TransformerLens is not installed: pip install 'dtx[transformer-lens]'"
            ) from None
        return Theirs(self.cache_dict, self.model)

    def _full(self, name: str, layer: int) -> list[str]:
        """The names that a short name of a block can mean; -1 is the last block."""
        block = f"blocks.{layer % self.model.cfg.n_layers}"
        return [f"{block}.{part}hook_{name}" for part in ("", "attn.", "mlp.")]
