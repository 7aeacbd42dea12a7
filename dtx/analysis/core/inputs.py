"""Windows that an analysis looks at: at the decision, for each reward-to-go, and of the demonstrations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dtx.dataset.dataset import Dataset
from dtx.env.actions import Action
from dtx.env.environment import Environment

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from dtx.dt.context import Context
    from dtx.dt.model import DecisionTransformerModel


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """The logit difference that is explained: logit[pos] - logit[neg] at the last state token."""

    identity_name: ClassVar[str] = "dtx.analysis.inputs.Contrast"

    pos: Action
    neg: Action

    def check(self) -> Iterator[tuple[str, str]]:
        """Two different actions."""
        if self.pos is self.neg:
            yield "neg", f"{self.neg.value} is compared with itself; choose another action"

    def __str__(self) -> str:
        return f"{self.pos.value} - {self.neg.value}"


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Which windows; ``conf/analysis/attribution.yaml`` explains the fields."""

    identity_name: ClassVar[str] = "dtx.analysis.inputs.Inputs"

    env: Environment
    dataset: Dataset
    targets: tuple[float, ...]
    count: int
    seed: int

    def check(self) -> Iterator[tuple[str, str]]:
        """Ranges."""
        if not self.targets:
            yield "targets", "needs at least one reward-to-go"
        if self.count < 1:
            yield "count", "must be at least 1"
        if self.seed < 0:
            yield "seed", "must be 0 or more"

    def deciding(self, model: DecisionTransformerModel) -> tuple[Context, pd.DataFrame]:
        """Windows whose last state is where something is decided.

        Where the environment names its decision square: every layout at every target, the routine
        followed up to there. Elsewhere: windows of the demonstrations, as recorded.

        Returns:
            The windows, and one row a window: window, layout ("" where there are none), target.
        """
        import pandas as pd

        from dtx.dt.context import Context
        from dtx.dt.rollout import decision_contexts

        decision = self.env.decision
        if decision is None:
            return self.demonstrated(model)
        import torch

        parts = decision_contexts(model, decision, self.targets)
        context = Context(  # all parts have the same table
            {
                k: v if k == "table" else torch.cat([part[k] for part in parts])
                for k, v in parts[0].items()
            }
        )
        context.layout = parts[0].layout
        rows = [(layout, target) for target in self.targets for layout in decision.layouts]
        frame = pd.DataFrame(rows, columns=["layout", "target"])
        frame.insert(0, "window", range(len(frame)))
        return context, frame

    def demonstrated(self, model: DecisionTransformerModel) -> tuple[Context, pd.DataFrame]:
        """Windows of the training episodes that end at a real step; see :meth:`deciding`."""
        import numpy as np
        import pandas as pd

        from dtx.dt.spec import Balance, Padding, Windows
        from dtx.dt.windows import Drawn, Sampler

        cfg = model.cfg
        windows = Windows(
            context=cfg.n_steps,
            padding=Padding.left if cfg.left_padding else Padding.right,
            first_share=0.5,
            end_share=0.0,
            balance=Balance.none,
        )
        sampler = Sampler(self.dataset.load(), cfg, windows, split=0)
        drawn = sampler.draw(np.random.default_rng(self.seed), 8 * self.count)
        if (
            not cfg.left_padding
        ):  # padding on the right has no last state: take the commonest length
            length = int(np.bincount(drawn.length).argmax())
            kept = np.flatnonzero(drawn.length == length)
        else:
            length, kept = cfg.n_steps, np.arange(len(drawn.length))
        kept = kept[: self.count]
        drawn = Drawn(drawn.row[kept], drawn.begin[kept], drawn.length[kept])
        context = cut(sampler.context(drawn)[0], length)
        first = context["reward_to_go"][:, 0].tolist()
        return context, pd.DataFrame({"window": range(len(kept)), "layout": "", "target": first})


def cut(context: Context, steps: int) -> Context:
    """The first timesteps of windows."""
    shorter = context.clone()
    for name in context:
        if name != "table":
            shorter[name] = context[name][:, :steps].contiguous()
    return shorter


def distinct_inputs(context: Context) -> int:
    """How many of the windows differ in what the model reads: the number of samples there really are."""
    import numpy as np

    one_hot = context["one_hot"] if "one_hot" in context else context["table"]
    rows = one_hot.flatten(0, -2).numpy()
    _, index = np.unique(rows, axis=0, return_inverse=True)
    observation: np.ndarray = index.reshape(-1)
    shape = context["timestep"].shape
    seen = (
        observation.reshape(shape)
        if "one_hot" in context
        else observation[context["observation"].numpy()]
    )
    columns = [seen, context["action"][:, : shape[1] - 1].numpy(), context["timestep"].numpy()]
    if context.layout.has_reward_to_go:
        columns.append(context["reward_to_go"].numpy())
    windows = np.concatenate([c.astype(np.float64) for c in columns], axis=1)
    return len(np.unique(windows, axis=0))


def positions(context: Context) -> list[str]:
    """Names of the tokens: R1 S1 A1 R2 ... and the last state."""
    return context.layout.names(context.shape[1])


def cell_names() -> list[str]:
    """What each entry of a flattened observation says: "key (2,6)": object, colour or state and cell."""
    from dtx.env.encoding import SIZE

    return [f"{channel_name(i // 49)} ({i % 49 // 7},{i % 7})" for i in range(SIZE)]


def channel_name(channel: int) -> str:
    """MiniGrid's name of one of the 20 channels."""
    from minigrid.core.constants import IDX_TO_COLOR, IDX_TO_OBJECT

    from dtx.env.encoding import OFFSETS

    if channel < OFFSETS[1]:
        return IDX_TO_OBJECT[channel]
    if channel < OFFSETS[2]:
        return IDX_TO_COLOR[channel - OFFSETS[1]]
    return ("open", "closed", "locked")[channel - OFFSETS[2]]
