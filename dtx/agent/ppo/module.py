"""PPO as a Lightning module with manual optimisation: one training step is one iteration.

An iteration is a rollout and its update, and is a function of the weights and of its number alone: all
randomness comes from generators seeded by (seed, attempt, iteration). Environments cannot be saved, so
every ``checkpoint_every`` iterations they start again from a derived seed, and the returns of the
episodes cut there are estimated by the value, as at any rollout's end. A resumed run is therefore
identical to an uninterrupted one.

Axes: t time · n environments · f frames · p frames of the distinct pieces, packed · a actions.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any

import numpy as np
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.nn import functional as F

from dtx.agent.network import ActorCritic, AgentArchitecture
from dtx.agent.ppo.spec import PPOSpec
from dtx.agent.rollout import Collector, Outcomes, Rollout, advantages, measure
from dtx.agent.sequences import Pieces, cut
from dtx.env import encoding
from dtx.report import Report
from dtx.training.resumable import ResumableModule

EVALUATED_AT_ONCE = 128
LEARNT = (
    "learn/policy_loss",
    "learn/value_loss",
    "learn/entropy",
    "learn/kl",
    "learn/clip_share",
    "learn/gradient_norm",
)
LEAST_SPREAD = 0.1
"""Advantages are scaled to unit spread, but never by more than the inverse of this."""
KL = LEARNT.index("learn/kl")


def derived(seed: int, *path: str | int) -> int:
    """A seed below 2**56 for a purpose: the same for the same path, unrelated otherwise."""
    digest = hashlib.blake2b(repr((seed, *path)).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big")


def generator(seed: int, *path: str | int) -> torch.Generator:
    """A random generator for a purpose."""
    return torch.Generator().manual_seed(derived(seed, *path))


class PPOModule(ResumableModule):
    """Train an agent by PPO and write curves.

    Args:
        spec: The settings.
        report: Where curves go.
    """

    def __init__(self, spec: PPOSpec, report: Report):
        super().__init__()
        self.automatic_optimization = False
        self.spec, self.report = spec, report
        self.architecture = AgentArchitecture(
            encoder=spec.encoder,
            memory=spec.memory,
            width=spec.width,
            n_actions=spec.env.n_actions,
        )
        self.agent = self._new_agent(attempt=0)
        self.attempt, self.begun = 0, 0  # which attempt, and the iteration at which it began
        self.solved_frames = 0  # frames of this attempt when first measured as solved; 0: not yet
        self.success = float("nan")
        self._collector: Collector | None = None
        self._last = 0  # iterations done
        self._seconds, self._since = 0.0, 0.0

    # --- Lightning -------------------------------------------------------------------------------

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over all parameters; the rate is set before each iteration."""
        return torch.optim.Adam(self.agent.parameters(), lr=self.spec.lr, eps=1e-5, fused=True)

    def training_step(self, step: int, _: int) -> None:
        """Iteration ``step``: play, learn, sometimes measure."""
        began = time.process_time()
        spec = self.spec
        collector = self._collector
        if collector is None or step % spec.checkpoint_every == 0:
            collector = self._restart_environments(step)
        rollout = collector.collect(spec.rollout_steps, self._generator("act", step))
        curves = self._learn(rollout, step)
        if len(rollout.lengths):
            curves["train/return"] = float(rollout.returns.mean())
            curves["train/success"] = float((rollout.returns > 0).mean())
            curves["train/episode_length"] = float(rollout.lengths.mean())
        if (step + 1 - self.begun) % spec.evaluate_every == 0:
            curves |= self._evaluate(step)
        total = (step + 1) * spec.frames_an_iteration
        self.report.curve(total, curves)
        self._time(total, time.process_time() - began)
        self._last = step + 1
        hopeless = not self.solved_frames and self.frames(step) >= spec.give_up_at
        if hopeless and self.attempt + 1 < spec.attempts:
            self._start_over(step + 1)

    def frames(self, step: int) -> int:
        """Frames of this attempt after iteration ``step``."""
        return (step + 1 - self.begun) * self.spec.frames_an_iteration

    @property
    def total_frames(self) -> int:
        """Frames of all attempts so far."""
        return self._last * self.spec.frames_an_iteration

    def finished(self) -> bool:
        """Whether to end before all attempts' iterations are used."""
        solved = bool(self.solved_frames) and self.spec.stop_when_solved
        return solved or self._last - self.begun >= self.spec.iterations

    def resume_state(self) -> dict[str, Any]:
        """What a checkpoint needs besides weights and optimiser."""
        return {
            "attempt": self.attempt,
            "begun": self.begun,
            "solved_frames": self.solved_frames,
            "success": self.success,
            "last": self._last,
            "seconds": self._seconds,
        }

    def load_resume_state(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`resume_state` returned."""
        self.attempt, self.begun = state["attempt"], state["begun"]
        self.solved_frames, self.success = state["solved_frames"], state["success"]
        self._last = state["last"]
        self._seconds = self._since = state["seconds"]

    # --- playing ---------------------------------------------------------------------------------

    def measure(self, episodes: int, temperature: float, *purpose: str | int) -> Outcomes:
        """Fresh episodes with the present weights; the same purpose gives the same ones."""
        spec = self.spec
        seed = derived(spec.seed, "fresh", self.attempt, *purpose)
        env = spec.env.vector(min(EVALUATED_AT_ONCE, episodes), seed)
        noise = generator(spec.seed, "sample", self.attempt, *purpose)
        outcomes = measure(self.agent, env, episodes, temperature, noise)
        env.close()
        return outcomes

    def _evaluate(self, step: int) -> dict[str, float]:
        """A quick look at a quarter of the episodes; what looks solved is confirmed on all."""
        spec, full = self.spec, self.spec.evaluation_episodes
        outcomes = self.measure(-(-full // 4), 1.0, "look", step)
        if outcomes.success >= spec.solved_at and not self.solved_frames:
            outcomes = self.measure(full, 1.0, "confirm", step)
            if outcomes.success >= spec.solved_at:
                self.solved_frames = self.frames(step)
        self.success = outcomes.success
        return {
            "fresh/success": outcomes.success,
            "fresh/return": outcomes.mean_return,
            "fresh/episode_length": outcomes.length,
        }

    def _restart_environments(self, step: int) -> Collector:
        if self._collector is not None:
            self._collector.env.close()
        seed = derived(self.spec.seed, "env", self.attempt, step)
        env = self.spec.env.vector(self.spec.environments, seed)
        self._collector = Collector(env, self.agent)
        return self._collector

    def _start_over(self, step: int) -> None:
        self.attempt, self.begun = self.attempt + 1, step
        self.agent.load_state_dict(self._new_agent(self.attempt).state_dict())
        self._optimizer.optimizer.state.clear()
        self._collector = None

    @property
    def _optimizer(self) -> LightningOptimizer:
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        return optimizer

    def _new_agent(self, attempt: int) -> ActorCritic:
        return ActorCritic(self.architecture, derived(self.spec.seed, "weights", attempt))

    def _generator(self, purpose: str, step: int) -> torch.Generator:
        return generator(self.spec.seed, purpose, self.attempt, step)

    def _time(self, total: int, seconds: float) -> None:
        """Report speed and CPU-seconds so far after every ten iterations; ``total`` counts frames."""
        self._seconds += seconds
        ten = 10 * self.spec.frames_an_iteration
        if total % ten == 0:
            speed = ten / max(self._seconds - self._since, 1e-9)
            self.report.timing(
                total,
                {"timing/frames_per_cpu_second": speed, "timing/cpu_seconds": self._seconds},
            )
            self._since = self._seconds

    # --- learning --------------------------------------------------------------------------------

    def _learn(self, rollout: Rollout, step: int) -> dict[str, float]:
        spec = self.spec
        done = (step - self.begun) / spec.iterations
        rate = spec.lr + done * (spec.lr_end - spec.lr)
        bonus = spec.entropy + done * (spec.entropy_end - spec.entropy)
        optimizer = self._optimizer
        for group in optimizer.param_groups:
            group["lr"] = rate
        data = Frames(rollout, spec.gamma, spec.gae_lambda)
        order = self._generator("shuffle", step)
        shown: list[Tensor] = []
        for _ in range(spec.epochs):
            envs = torch.randperm(spec.environments, generator=order).numpy()
            for part in np.array_split(envs, spec.minibatches):
                pieces = cut(rollout.begins, data.index, part)
                loss, numbers = self._loss(data, pieces, bonus)
                if numbers[KL] > spec.target_kl:
                    break
                optimizer.zero_grad()
                self.manual_backward(loss)
                norm = nn.utils.clip_grad_norm_(self.agent.parameters(), spec.gradient_norm)
                optimizer.step()
                shown.append(torch.cat([numbers, norm.detach().view(1)]))
            else:
                continue
            break
        means = torch.stack(shown).mean(0).tolist() if shown else [float("nan")] * len(LEARNT)
        variance = data.returns.var()
        unexplained = (data.returns - data.values).var() / variance if variance > 0 else torch.nan
        return dict(zip(LEARNT, means, strict=True)) | {
            "learn/explained_variance": 1 - float(unexplained),
            "learn/lr": rate,
            "learn/entropy_weight": bonus,
            "learn/updates": len(shown),
        }

    def _loss(self, data: Frames, pieces: Pieces, bonus: float) -> tuple[Tensor, Tensor]:
        """Clipped surrogate, value error and entropy over the packed frames of some environments."""
        spec = self.spec
        frame_f, place_f = torch.from_numpy(pieces.frame_f), torch.from_numpy(pieces.place_f)
        carries = torch.from_numpy(pieces.carries).unsqueeze(1)
        memory = torch.where(carries, data.memory[torch.from_numpy(pieces.env)], 0.0)
        logits_pa, values_p = self.agent.pieces(
            data.distinct,
            torch.from_numpy(pieces.observation_p),
            torch.from_numpy(pieces.batch_sizes),
            memory,
        )
        log_probs_pa = F.log_softmax(logits_pa, dim=1)
        entropy_p = -(log_probs_pa.exp() * log_probs_pa).sum(1)
        log_ratio_f = log_probs_pa[place_f, data.actions[frame_f]] - data.log_probs[frame_f]
        ratio_f = log_ratio_f.exp()
        advantage_f = data.advantages[frame_f]
        clipped_f = ratio_f.clamp(1 - spec.clip, 1 + spec.clip)
        policy_loss = -torch.min(ratio_f * advantage_f, clipped_f * advantage_f).mean()
        value_loss = F.mse_loss(values_p[place_f], data.returns[frame_f])
        entropy = entropy_p[place_f].mean()
        loss = policy_loss + spec.value_weight * value_loss - bonus * entropy
        with torch.no_grad():
            # Schulman's estimator, never negative: http://joschu.net/blog/kl-approx.html
            kl = (ratio_f - 1 - log_ratio_f).mean()
            clip_share = ((ratio_f - 1).abs() > spec.clip).float().mean()
        return loss, torch.stack([policy_loss, value_loss, entropy, kl, clip_share]).detach()


class Frames:
    """A rollout's frames, flattened from (t, n), as tensors ready to be indexed.

    Within a rollout few observations are distinct; each is kept, and later encoded, once.
    """

    def __init__(self, rollout: Rollout, gamma: float, gae_lambda: float):
        estimate = advantages(rollout, gamma, gae_lambda)
        flat = rollout.observations.reshape(-1, encoding.VIEW, encoding.VIEW, 3)
        distinct, index = encoding.distinct(flat)
        self.distinct = torch.from_numpy(distinct)
        self.index = index.reshape(rollout.begins.shape)
        self.actions = torch.from_numpy(rollout.actions.ravel())
        self.log_probs = torch.from_numpy(rollout.log_probs.ravel())
        self.values = torch.from_numpy(rollout.values.ravel())
        self.returns = torch.from_numpy((estimate + rollout.values).ravel())
        raw = torch.from_numpy(estimate.ravel())
        # Once everything is predicted the spread vanishes: dividing by it would amplify noise.
        self.advantages = (raw - raw.mean()) / raw.std().clamp(min=LEAST_SPREAD)
        self.memory = rollout.memory
