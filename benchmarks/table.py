"""All speeds in one table, from one run: `make bench`.

Every figure is per CPU-second of one thread, so that another load on the machine matters little. Beside
dtx stand a plain baseline measured in the same run and, for ratios only, the older tool's published speed
on this kind of machine (two shared cores; ratios hold, absolutes move). Needs the default study's
artefacts: `make run` first, else they are made, which takes minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from dtx.agent.ppo import PPO
from dtx.analysis.calibration import Calibration
from dtx.config.compose import compose, experiment
from dtx.dataset.rollouts import Rollouts
from dtx.dt.decision_transformer import DecisionTransformer
from dtx.env.environment import Environment
from dtx.env.vector import VectorEnv
from dtx.report import read_curves, read_metrics
from dtx.running.runner import run
from dtx.store.store import Store, use

OLDER = {  # per CPU-second, from the study's own code on this kind of machine: lowest and highest seen
    "ppo": (107, 135),
    "demonstrations": (37, 57),
    "dt": (191, 236),
    "calibration": (87, 114),  # 11 targets x 56 greedy episodes in 5.4-7.1 s
}


@dataclasses.dataclass
class Row:
    """A line of the table; rates are per CPU-second."""

    work: str
    rate: float
    unit: str
    baseline: tuple[str, float] | None = None
    older: tuple[float, float] | None = None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", type=Path, default=Path("store"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    overrides = [f"seed={chosen.seed}", f"store.path={chosen.store}", "tracking.enabled=false"]
    what = experiment(compose(overrides))
    run(what)
    calibration = what.targets["calibration"]
    assert isinstance(calibration, Calibration)
    dt, dataset = calibration.dt, calibration.dataset
    assert isinstance(dt, DecisionTransformer) and isinstance(dataset, Rollouts)
    assert isinstance(dataset.agent, PPO)
    store = Store(chosen.store)
    rows = [
        Row("matrix product, 1024 x 1024, fp32", matmul_rate(torch.float32), "GFLOP"),
        Row("matrix product, 1024 x 1024, bf16", matmul_rate(torch.bfloat16), "GFLOP"),
        environments(calibration.env),
        ppo(dataset.agent),
        demonstrations(dataset, store),
        *decision_transformer(dt, store),
        *calibrate(calibration, store),
    ]
    show(rows, chosen.seed)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for a stage's output that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="dtx-bench-") as folder:
        yield Path(folder)


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU-seconds of this process for one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def matmul_rate(dtype: torch.dtype, size: int = 1024, repeats: int = 20) -> float:
    """GFLOP per CPU-second of a square matrix product, the best of three blocks."""
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    torch.mm(a, b)

    def block() -> None:
        for _ in range(repeats):
            torch.mm(a, b)

    return 2 * size**3 * repeats / min(cpu_seconds(block) for _ in range(3)) / 1e9


def environments(env: Environment, n: int = 64, steps: int = 400) -> Row:
    """Steps of random actions, beside gymnasium's vector environment over minigrid itself."""
    import gymnasium
    import minigrid  # noqa: F401  (registers the tasks)

    actions = np.random.default_rng(0).integers(0, 7, (steps, n))

    def rate(vector: VectorEnv | gymnasium.vector.VectorEnv, count: int) -> float:
        vector.reset()
        return count * n / cpu_seconds(lambda: [vector.step(a) for a in actions[:count]])

    fast = rate(env.vector(n, 0), steps)
    plain = gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make("MiniGrid-MemoryS7-v0")] * n)
    slow = rate(plain, steps // 8)
    return Row(
        f"environment steps, {n} at once", fast, "steps", ("minigrid + gymnasium vector", slow)
    )


def ppo(agent: PPO) -> Row:
    """The agent's whole training, evaluations on fresh episodes included."""
    with scratch() as out:
        seconds = cpu_seconds(lambda: agent.run(out))
        solved = read_metrics(out)["agent/frames_to_solved"]
    solved_after = f"{seconds * solved / agent.frames:.0f} CPU-s" if solved else "never"
    return Row(
        f"PPO, {agent.frames:,} frames in {seconds:.0f} CPU-s; solved after {solved_after}",
        agent.frames / seconds,
        "frames",
        None,
        OLDER["ppo"],
    )


def demonstrations(dataset: Rollouts, store: Store) -> Row:
    """Recording, writing and counting the demonstrations."""
    use(store)
    with scratch() as out:
        seconds = cpu_seconds(lambda: dataset.run(out))
    work = f"demonstrations, {dataset.episodes:,} in {seconds:.0f} CPU-s"
    return Row(work, dataset.episodes / seconds, "episodes", None, OLDER["demonstrations"])


def decision_transformer(trained: DecisionTransformer, store: Store, steps: int = 60) -> list[Row]:
    """DT training at the preset's size, in both precisions, beside a plain TransformerEncoder.

    The share is of the matrix rate of the same number type, measured here and now; it counts the FLOPs
    that the distinct real tokens of a batch need, while windows are counted as drawn.
    """
    from dtx.dt.training.spec import Precision

    use(store)
    plain = plain_transformer(trained)
    rows = []
    for precision, dtype in (
        (Precision.float32, torch.float32),
        (Precision.bfloat16, torch.bfloat16),
    ):
        dt = dataclasses.replace(
            trained,
            steps=steps,
            kept_checkpoints=0,
            log_every=steps // 2,
            precision=precision,
        )
        with scratch() as out:
            dt.run(out)
            speed = read_curves(out, "timing.jsonl")[-1]
        gflops = speed["gflop_per_cpu_second"]
        share = f"{gflops:.0f} GFLOP/s = {gflops / matmul_rate(dtype):.0%} of its matrix rate"
        rows.append(
            Row(
                f"DT training, d_model {dt.model.d_model}, {precision.value}: {share}",
                speed["windows_per_cpu_second"],
                "windows",
                ("plain nn.TransformerEncoder", plain),
                OLDER["dt"],
            )
        )
    return rows


def plain_transformer(dt: DecisionTransformer, steps: int = 6) -> float:
    """Windows per CPU-second of PyTorch's own encoder of the same size on padded one-hot windows."""
    from dtx.dataset.episodes import Split
    from dtx.dt.windows import Sampler

    sampler = Sampler(dt.dataset.load(), dt.model_config(), dt.windows, Split.TRAIN)
    d = dt.model.d_model
    layer = torch.nn.TransformerEncoderLayer(
        d, dt.model.n_heads, dt.model.d_mlp, 0.0, "gelu", batch_first=True, norm_first=True
    )
    encoder = torch.nn.TransformerEncoder(layer, dt.model.n_layers, enable_nested_tensor=False)
    state, action, to_go = torch.nn.Linear(980, d), torch.nn.Embedding(8, d), torch.nn.Linear(1, d)
    time_embedding, head = torch.nn.Embedding(dt.model.n_timesteps, d), torch.nn.Linear(d, 7)
    parts = torch.nn.ModuleList([encoder, state, action, to_go, time_embedding, head])
    optimiser = torch.optim.AdamW(parts.parameters(), lr=1e-3)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(dt.tokens)
    rng = np.random.default_rng(0)

    def step() -> None:
        context, target, real = sampler.context(sampler.draw(rng, dt.batch_size))
        one_hot = context["table"][context["observation"]]
        tokens = torch.stack(
            [
                to_go(context["reward_to_go"].unsqueeze(-1)),
                state(one_hot),
                action(context["action"]),
            ],
            2,
        )
        tokens = (tokens + time_embedding(context["timestep"]).unsqueeze(2)).flatten(1, 2)[:, :-1]
        logits = head(encoder(tokens, mask=mask, is_causal=True)[:, 1::3])
        loss = torch.nn.functional.cross_entropy(logits[real], target[real])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    step()
    return dt.batch_size * steps / cpu_seconds(lambda: [step() for _ in range(steps)])


def calibrate(calibration: Calibration, store: Store) -> list[Row]:
    """Episodes of the trained DT over all targets: greedy, as the older tool's, and sampled."""
    from dtx.dt.rollout import rollouts

    use(store)
    model = calibration.dt.load()
    count = 56  # the older tool's number of episodes a target
    episodes = count * len(calibration.targets)
    rows = []
    for greedy in (True, False):
        seconds = min(
            cpu_seconds(
                lambda greedy=greedy: rollouts(
                    model,
                    calibration.env,
                    calibration.targets,
                    episodes=count,
                    seed=0,
                    greedy=greedy,
                )
            )
            for _ in range(3)
        )
        how = "greedy" if greedy else "sampled"
        work = f"calibration, {len(calibration.targets)} targets x {count}, {how}"
        older = OLDER["calibration"] if greedy else None
        rows.append(Row(work, episodes / seconds, "episodes", None, older))
    return rows


def show(rows: list[Row], seed: int) -> None:
    """Print the table."""
    table = Table(
        title=f"per CPU-second of one thread; {platform.processor() or platform.machine()}, seed {seed}"
    )
    for name in ("work", "dtx", "baseline, same run", "ratio", "older tool", "ratio "):
        table.add_column(name, justify="left" if name == "work" else "right")
    for row in rows:
        base = f"{row.baseline[1]:,.0f} {row.baseline[0]}" if row.baseline else ""
        base_ratio = f"{row.rate / row.baseline[1]:.1f}x" if row.baseline else ""
        older = f"{row.older[0]:,.0f}-{row.older[1]:,.0f}" if row.older else ""
        ratio = f"{row.rate / row.older[1]:.1f}-{row.rate / row.older[0]:.1f}x" if row.older else ""
        table.add_row(row.work, f"{row.rate:,.0f} {row.unit}", base, base_ratio, older, ratio)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
