"""Windows of data that ablated outputs get their means and values from: never over a weight axis.

Letters: b window, r row of a forward pass, n token, q window of data, m token of data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dtx.analysis.ablation.nodes import HOOKS, hook_of
from dtx.analysis.ablation.spec import AblationSpec
from dtx.analysis.core.inputs import Inputs
from dtx.analysis.core.windows import beginnings, missing_steps, real_tokens
from dtx.dt.context import Context
from dtx.dt.model import DecisionTransformerModel


@dataclass
class Data:
    """Activations in windows of data, and which of them stand in for which tokens.

    Attributes:
        cache: By hook, (q, m, ...) with m the tokens of data.
        window_bdn: (b, draws, n) the donor of each token. token_bdn: And the donor's token.
        mean_nqm: For each token the weights of data's tokens in its mean.
        context: The windows. aligned: Donor tokens are those of the same place.
    """

    cache: dict[str, Tensor]
    window_bdn: Tensor
    token_bdn: Tensor
    mean_nqm: Tensor
    context: Context
    aligned: bool

    def mean(self, name: str) -> Tensor:
        """(n, ...) mean over windows of data, token for token."""
        value = self.cache[name]
        flat = self.mean_nqm.flatten(1) @ value.flatten(0, 1).flatten(1)
        return flat.unflatten(1, value.shape[2:])

    def donor(self, name: str, window: Tensor, draw: Tensor) -> Tensor:
        """(r, n, ...) values of donors."""
        return self.cache[name][self.window_bdn[window, draw], self.token_bdn[window, draw]]


def reference_of(
    windows: Inputs, model: DecisionTransformerModel, context: Context, count: int, seed: int
) -> Context:
    """Windows of data for means and donors: first steps of training episodes as long as the windows.

    Where nothing is decided at a known place, windows of the demonstrations as they are ablated, too.
    """
    if windows.env.decision is None:
        return replace(windows, count=count, seed=seed).demonstrated(model)[0]
    steps = context["timestep"].shape[1] - int(missing_steps(context, model.cfg)[0])
    return beginnings(windows.dataset.load(), model.cfg, steps, count, seed)[0]


def data_of(
    spec: AblationSpec, model: DecisionTransformerModel, context: Context, reference: Context
) -> Data:
    """Activations in windows of data, as donors of the windows that are ablated.

    Tokens stand in for those of the same place if lengths agree, else for those of their kind.
    """
    cfg = model.cfg
    names = {hook_of(layer, kind) for layer in range(cfg.n_layers) for kind in HOOKS}
    _, cache = model.run_with_cache(reference, names_filter=lambda name: name in names)
    real_qm, real_bn = real_tokens(reference, cfg), real_tokens(context, cfg)
    aligned = real_qm.shape[1] == real_bn.shape[1]
    aligned = aligned and bool((torch.cat([real_qm, real_bn]) == real_bn[0]).all())
    rng = np.random.default_rng(spec.seed)
    windows, tokens = real_bn.shape
    shape = (windows, spec.donors, tokens)
    # eligible (n, q, m): which tokens of data may stand in for a token.
    kind_m = torch.from_numpy(cfg.layout.slot_of(real_qm.shape[1]))
    kind_n = torch.from_numpy(cfg.layout.slot_of(tokens))
    if aligned:
        eligible = torch.eye(tokens)[:, None, :].expand(-1, len(reference), -1)
        donor = rng.integers(len(reference), size=shape[:2])
        window_bdn = torch.from_numpy(donor)[..., None].expand(shape)
        token_bdn = torch.arange(tokens).expand(shape)
    else:
        eligible = ((kind_n[:, None] == kind_m)[:, None, :] & real_qm).float()
        window_bdn, token_bdn = torch.zeros(2, *shape, dtype=torch.long)
        for n in range(tokens):
            places = torch.nonzero(eligible[n])
            drawn = places[torch.from_numpy(rng.integers(len(places), size=shape[:2]))]
            window_bdn[..., n], token_bdn[..., n] = drawn.unbind(-1)
    weight = eligible / eligible.sum((1, 2), keepdim=True)
    return Data(dict(cache), window_bdn, token_bdn, weight, reference, aligned)
