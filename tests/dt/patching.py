"""A small direct patching loop, independent of the analyses that it helps to judge."""

from __future__ import annotations

import numpy as np
import torch

from dtx.dt.circuit import Circuit, CircuitNode, positions
from dtx.dt.context import Context
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.rollout import decision_contexts
from dtx.env.memory import LEFT, RIGHT, Memory

TARGETS = (0.0, 0.892)
FLIPS = ("instruction", "target", "reward_to_go")


def pairs(model: DecisionTransformerModel, env: Memory, flip: str) -> tuple[Context, Context]:
    """Clean and corrupt windows (8 each: layouts at low and high) at the decision."""
    low, high = decision_contexts(model, env.decision, TARGETS)
    # key/left, key/right, ball/left, ball/right: what differs in one variable, all else equal.
    other = {"instruction": [3, 2, 1, 0], "target": [1, 0, 3, 2], "reward_to_go": [0, 1, 2, 3]}
    partner = torch.tensor(other[flip])
    corrupt = (high, low) if flip == "reward_to_go" else (low, high)
    return _join(low, high), _join(*(c[partner] for c in corrupt))


def _join(one: Context, two: Context) -> Context:
    assert torch.equal(one["table"], two["table"])
    values = {k: torch.cat([one[k], two[k]]) for k in one if k != "table"}
    return Context.of(table=one["table"], **values)


def difference(model: DecisionTransformerModel, context: Context, hooks: list = ()) -> torch.Tensor:  # type: ignore[assignment]
    """(b,) left minus right at the last state, under hooks."""
    with torch.no_grad(), model.hooks(fwd_hooks=list(hooks)):
        logits = model(context)[:, -1]
    return logits[:, LEFT] - logits[:, RIGHT]


def restored(
    model: DecisionTransformerModel, clean: Context, corrupt: Context, hook: str, head: int | None
) -> np.ndarray:
    """(b, n): rho of patching a node at each token, all tokens in one pass."""
    _, cache = model.run_with_cache(clean, names_filter=[hook])
    windows, tokens = clean.shape
    source = cache[hook].repeat(tokens, *[1] * (cache[hook].ndim - 1))
    row = torch.arange(windows * tokens)
    token = row // windows

    def patch(value: torch.Tensor, hook) -> torch.Tensor:
        value = value.clone()
        at = (row, token) if head is None else (row, token, head)
        value[at] = source[at]
        return value

    patched = difference(model, corrupt.repeat(tokens), [(hook, patch)]).reshape(tokens, windows)
    one, two = difference(model, clean), difference(model, corrupt)
    return ((patched - two) / (one - two)).T.numpy()


def sites(circuit: Circuit) -> list[tuple[str, int | None]]:
    """All hooks, and heads, that a circuit says something about."""
    found: list[tuple[str, int | None]] = [("hook_embed", None)]
    for layer in range(circuit.n_layers):
        names = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_attn_out")
        found += [(f"blocks.{layer}.{name}", None) for name in (*names, "hook_mlp_out")]
        found += [(f"blocks.{layer}.attn.hook_z", head) for head in range(circuit.n_heads)]
    return found


def expected(circuit: Circuit, flip: str, hook: str, head: int | None, steps: int) -> np.ndarray:
    """(n,) rho by token as the circuit tells it; NaN where it leaves it open."""
    rho = np.zeros(3 * steps - 1)
    for role, where in positions(steps).items():
        told = circuit.rho(flip, CircuitNode(hook, head, role))
        if len(where) == 1 and told != 0:
            rho[where[0]] = np.nan if told is None else told
    if circuit.rho(flip, CircuitNode(hook, head, "last_reward_to_go")) is None:
        rho[list(positions(steps)["all_reward_to_go"])] = np.nan
    return rho
