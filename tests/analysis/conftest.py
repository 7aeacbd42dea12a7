"""A small world for the analyses: a noisy scripted teacher's episodes and tiny models of them."""

from __future__ import annotations

import dataclasses

import pytest

from dtx.config.compose import build_group
from dtx.dataset.rollouts import Rollouts, Share
from tests.agents import Constant


@pytest.fixture(scope="session")
def env():
    return build_group("env/memory")


@pytest.fixture(scope="session")
def rollouts(env) -> Rollouts:
    """Episodes of a teacher that mostly walks forward: all three outcomes occur."""
    return Rollouts(
        env=env,
        agent=Constant(logits=(1.0, 1.0, 2.0, -2, -2, -2, -2)),
        episodes=300,
        mixture=(Share(temperature=1, share=1),),
        environments=64,
        validation=0.1,
        seed=0,
        facts=False,
    )


@pytest.fixture(scope="session")
def tiny(rollouts):
    """A Decision Transformer of one layer and width 16, trained for a few steps."""
    overrides = [
        "dt.model.n_layers=1",
        "dt.model.d_model=16",
        "dt.model.n_heads=2",
        "dt.model.d_mlp=16",
        "dt.steps=3",
        "dt.optimiser.warm_up=1",
        "dt.batch_size=16",
        "dt.validation_windows=16",
        "dt.log_every=1",
    ]
    return dataclasses.replace(build_group("dt/memory_dt", overrides), dataset=rollouts)
