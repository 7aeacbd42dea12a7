"""Speed of training TopK dictionaries beside a plain loop of PyTorch, and both losses: one run, one table.

    python benchmarks/dictionaries.py           # some minutes; --quick: a tenth of the steps

Both train the same dictionary from the same start on the same rows in the same order, with the same Adam and
the same rates, on one thread; CPU-seconds of the steps are counted, so that ratios hold on a busy machine.
The plain loop is what one writes first: dense products, ``topk``, ``scatter``, autograd. Activations are
drawn: sums of a few directions, with noise.

Letters: n rows of a batch, d activation, f feature.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from torch import Tensor

from dtx.dictionary.networks.network import Network, Planned, Schedule
from dtx.dictionary.networks.topk import TopKNetwork
from dtx.dictionary.spec import How
from dtx.dictionary.training import rate_share

SIZES = ((128, 1024), (256, 1024), (256, 4096))
K, ROWS, STEPS, RATE = 16, 1024, 600, 2e-3
MEASURED = 50
"""Steps at the end whose losses are compared."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps")
    steps = STEPS // 10 if parser.parse_args().quick else STEPS
    torch.set_num_threads(1)
    print(
        "| d | features | dtx, ms a step | plain loop, ms a step | ratio | loss, dtx | plain | apart |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for d, f in SIZES:
        x_rd = drawn(d)
        seconds, loss = trained(_network(d, f), x_rd, steps, sparse)
        plain_seconds, plain_loss = trained(_network(d, f), x_rd, steps, plain)
        print(
            f"| {d} | {f:,} | {1e3 * seconds:.1f} | {1e3 * plain_seconds:.1f} | "
            f"{plain_seconds / seconds:.2f} | {loss:.4f} | {plain_loss:.4f} | "
            f"{abs(loss / plain_loss - 1):.2%} |",
            flush=True,
        )


def drawn(d: int, rows: int = 100_000) -> Tensor:
    """(r, d) sums of 12 of 2 d directions, with noise; mean squared norm d."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(2 * d, d, generator=generator)
    directions /= directions.norm(dim=1, keepdim=True)
    chosen = torch.randint(2 * d, (rows, 12), generator=generator)
    size = torch.rand(rows, 12, generator=generator)
    x = torch.nn.functional.embedding_bag(chosen, directions, per_sample_weights=size, mode="sum")
    x = x + 0.05 * torch.randn(rows, d, generator=generator)
    x -= x.mean(0)
    return x * (d / x.square().sum(1).mean()) ** 0.5


def _network(d: int, f: int) -> TopKNetwork:
    planned = Planned("benchmark", "drawn", f, K, 0, How.trained)
    return TopKNetwork(planned, Schedule(0.0, 10**9, 50), d, d)


def trained(
    network: Network,
    x_rd: Tensor,
    steps: int,
    gradients: Callable[[Network, Tensor, Tensor, int], float],
) -> tuple[float, float]:
    """CPU-seconds a step, and the mean loss of the last ones."""
    optimizer = torch.optim.Adam(network.parameters(), RATE, fused=True)
    generator, weight = torch.Generator().manual_seed(1), torch.ones(ROWS)
    losses, spent = [], 0.0
    for step in range(steps):
        x = x_rd[torch.randint(len(x_rd), (ROWS,), generator=generator)]
        begin = time.process_time()
        losses.append(gradients(network, x, weight, step))
        network.before()
        for group in optimizer.param_groups:
            group["lr"] = RATE * rate_share(step, steps, 50, 0.3)
        optimizer.step()
        network.after()
        spent += time.process_time() - begin
    return spent / steps, sum(losses[-MEASURED:]) / MEASURED / x_rd.shape[1]


def sparse(network: Network, x_nd: Tensor, weight_n: Tensor, step: int) -> float:
    """Gradients as dtx takes them."""
    return network.gradients(x_nd, x_nd, weight_n, step)


def plain(network: Network, x_nd: Tensor, weight_n: Tensor, step: int) -> float:
    """Gradients as autograd gives them."""
    network.zero_grad(set_to_none=True)
    before_nf = x_nd @ network.W_enc.T + network.b_enc
    values, index = before_nf.topk(K, dim=1)
    features_nf = torch.zeros_like(before_nf).scatter(1, index, values.relu())
    out_nd = features_nf @ network.W_dec + network.b_dec
    loss = (weight_n * (out_nd - x_nd).square().sum(1)).mean()
    loss.backward()
    return loss.item()


if __name__ == "__main__":
    main()
