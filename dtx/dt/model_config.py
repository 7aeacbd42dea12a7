"""What defines a Decision Transformer's network, as model.json keeps it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from dtx.dt.tokens import TokenLayout, layout_of
from dtx.errors import UserError
from dtx.files import read_json

if TYPE_CHECKING:
    import torch

DESCRIPTION = "model.json"


@dataclass(kw_only=True)
class ModelConfig:
    """Everything needed to build the model and to feed it; TransformerLens's names where it has them.

    Attributes:
        n_ctx: Tokens in the longest window, rows of ``W_pos``.
        n_steps: Timesteps in the longest window (context length).
        n_timesteps: Timesteps that the time embedding knows.
        act_fn: gelu or relu. normalization_type: LN or None.
        time_embedding: learned (one row a timestep) or linear.
        positional_embedding: Whether a learned ``W_pos`` is added.
        state_bias: Whether the state embedding has a bias (it holds the centring).
        reward_to_go: False for a behaviour clone, which has no R tokens.
        left_padding: Whether windows are padded before the start to full length, as in the study.
        n_actions: Actions; this number itself is the padding action.
        n_channels: Length of a flattened one-hot observation.
        state_encoder: linear, or conv in some published models.
    """

    n_layers: int
    n_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    act_fn: str
    gated_mlp: bool
    normalization_type: str | None
    n_ctx: int
    n_steps: int
    n_timesteps: int
    time_embedding: str
    positional_embedding: bool
    state_bias: bool
    reward_to_go: bool
    left_padding: bool
    n_actions: int = 7
    n_channels: int = 980
    state_encoder: str = "linear"
    # What TransformerLens's tools ask of a config. The three switches make more activations.
    use_attn_result: bool = False
    use_split_qkv_input: bool = False
    use_hook_mlp_in: bool = False
    half_products: bool = False  # products of packed batches in bfloat16
    attn_only: bool = False
    final_rms: bool = False
    device: str = "cpu"
    model_name: str = "decision-transformer"

    _not_saved = (
        "device",
        "use_attn_result",
        "use_split_qkv_input",
        "use_hook_mlp_in",
        "half_products",
    )

    @property
    def layout(self) -> TokenLayout:
        """The order of the tokens that the model reads."""
        return layout_of(self.reward_to_go)

    @property
    def dtype(self) -> torch.dtype:
        """The number type of weights, as TransformerLens asks for it."""
        import torch  # not with the module: `dtx plan` reads configs of models

        return torch.float32

    @property
    def d_vocab_out(self) -> int:
        """TransformerLens's name for the number of outputs."""
        return self.n_actions

    @property
    def d_vocab(self) -> int:
        """Another of TransformerLens's names for it."""
        return self.n_actions

    @property
    def n_key_value_heads(self) -> None:
        """TransformerLens's name for fewer keys and values than queries; there are as many."""

    def to_dict(self) -> dict[str, Any]:
        """The values that define the model, for JSON."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: v for k, v in values.items() if k not in self._not_saved}

    def check(self) -> None:
        """Types and signs of the values.

        Raises:
            ValueError: The first that cannot be.
        """
        for name, kind in get_type_hints(ModelConfig).items():
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if kind is int and not (whole and 0 <= value < 2**31):
                raise ValueError(f"{name} is {str(value)[:50]!r}, not a whole number of things")
            if kind in (bool, str) and not isinstance(value, kind):
                raise ValueError(f"{name} is {str(value)[:50]!r}, not a {kind.__name__}")

    @staticmethod
    def read(folder: Path) -> ModelConfig:
        """The config of a stored model.

        Raises:
            UserError: The file is missing, damaged, or describes something else.
        """
        path = folder / DESCRIPTION
        try:
            config = ModelConfig(**read_json(path))
            config.check()
            return config
        except (OSError, ValueError, TypeError) as error:
            what = str(error).splitlines()[0].removeprefix(f"{path}: ")
            raise UserError(
                f"{path}: not a readable model ({what}); invalidate the stage to redo it"
            ) from error
