"""The countdown on models that are known to count, or not to, where there is nothing to do but to wait."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from dtx.analysis.core.result import Verdict
from dtx.analysis.countdown.clock import place_tells_time, reset_clock
from dtx.analysis.countdown.compute import compute
from dtx.analysis.countdown.naming import steps_named
from dtx.analysis.countdown.spec import (
    ASKED,
    GREEDY,
    RECEIVER_STEPS,
    SAME_STEPS,
    TIME,
    WHOLE_CLOCK,
    CountdownSpec,
)
from dtx.config.compose import build_group
from dtx.dataset.episodes import Episodes
from dtx.dt.context import Context
from dtx.dt.model import DecisionTransformerModel, initialise
from dtx.env.actions import Action
from dtx.env.vector import Step
from tests.dt.toy import tiny

H, FORWARD = 20, Action.forward.number
SPEC = CountdownSpec(
    targets=(0.19, 0.46, 0.73), episodes=8, states=24, shifts=(-3, -1, 2), least_gap=0.5,
    alike=(0.5, 2), carried=0.5, curve_targets=(0.19, 0.46, 0.64), offsets=(-3, 3),
    curve_episodes=32, control_episodes=64, follows=(0.5, 1.5), diagonal=0.05, probed=300,
    ridge=(0.01, 1.0), held_out=0.4, least_margin=0.05, untrained=2, seed=0,
)  # fmt: skip


class Waiting:
    """Forward ends the episode with success, all else waits: 1 - .9 t / H after t steps."""

    n_actions, horizon = 7, H

    def __init__(self, layouts: Sequence[int] = (0,)):
        self.places = np.asarray(layouts)
        self.n = len(self.places)
        self.looks = np.random.default_rng(0).integers(0, 3, (4, 7, 7, 3)).astype(np.uint8)

    def reset(self) -> np.ndarray:
        self.clock = np.zeros(self.n, int)
        return self.looks[self.places]

    def step(self, actions: np.ndarray) -> Step:
        self.clock += 1
        won = actions == FORWARD
        reward = np.where(won, 1 - 0.9 * self.clock / H, 0).astype(np.float32)
        late = ~won & (self.clock >= H)
        self.clock = np.where(won | late, 0, self.clock)
        return Step(self.looks[self.places], reward, won, late, self.looks[self.places])

    def close(self) -> None:
        pass


class WaitingDecision:
    layouts, step = ("a", "b", "c", "d"), 0

    def routine(self, layout: int) -> list[int]:
        return [FORWARD]

    def vector(self, layouts: Sequence[int], seed: int) -> Waiting:
        return Waiting(layouts)


class Place:
    horizon = H

    def vector(self, n: int, seed: int) -> Waiting:
        return Waiting(np.arange(n) % 4)


def demonstrations(worth: float = 0.9) -> Episodes:
    """Three successes of every length, and failures."""
    rng = np.random.default_rng(0)
    length = np.concatenate([np.arange(1, H + 1)] * 3 + [np.full(5, H)])
    won = np.arange(len(length)) < 3 * H
    start, total = np.cumsum(length) - length, int(length.sum())
    reward = np.zeros(total, np.float32)
    reward[(start + length - 1)[won]] = 1 - worth * length[won] / H
    return Episodes(
        observations=Waiting().looks,
        observation=rng.integers(0, 4, len(length)).repeat(length).astype(np.int32),
        action=np.where(rng.random(total) < 0.5, 0, 1).astype(np.uint8),
        reward=reward,
        start=start,
        length=length.astype(np.int32),
        outcome=np.where(won, 0, 2).astype(np.uint8),
        temperature=np.ones(len(length), np.float32),
        split=np.zeros(len(length), np.uint8),
    )


def planted(
    time: float = 1.0, asks: float = 1.0, size: float = 2.0, **overrides: str
) -> DecisionTransformerModel:
    """logit[forward] = size * (1.5 - steps left), where steps left = H / .9 (1 - R) - t.

    The first block moves the mean reward-to-go to every token and computes that time is up; the second does
    nothing. Dimensions: 0 time, 1 reward-to-go where it is said, 2 where it was moved to, 3 time is up.

    Args:
        time: How fast the model's own clock runs; 0: it has none. asks: The same of reward-to-go.
    """
    choices = {"layer_norm": "false", "time_embedding": "linear", "positional_embedding": "false"}
    names = [f"dt.model.{k}={v}" for k, v in (choices | overrides).items()]
    stage = tiny("dt.windows.context=20", "dt.model.n_ctx=59", "dt.model.activation=relu", *names)
    model = DecisionTransformerModel(stage.model_config())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.endswith(".w"):
                parameter.zero_()
        model.embed.W_time[:, 0] = 1.0
        model.embed.W_R[0, 1] = 1.0
        attention, mlp = model.blocks[0].attn, model.blocks[0].mlp
        attention.b_Q[0, 0], attention.W_K[0, 1, 0] = 1.0, 3000.0
        attention.W_V[0, 1, 1], attention.W_O[0, 1, 2] = 1.0, 1.0
        per, whole = asks * H / 0.9, H / 0.9
        for neuron, limit in enumerate((2.0, 1.0)):  # relu(2 - left) - relu(1 - left)
            mlp.W_in[0, neuron], mlp.W_in[2, neuron] = time, per
            mlp.b_in[neuron], mlp.W_out[neuron, 3] = limit - whole, 1.0 - 2 * neuron
        model.unembed.W_U[0, FORWARD], model.unembed.W_U[2, FORWARD] = size * time, size * per
        model.unembed.b_U[FORWARD] = size * (1.5 - whole)
        model.unembed.b_U[3:] = -20.0  # two ways of waiting are enough
    return model.eval()


def found(model: DecisionTransformerModel, spec: CountdownSpec = SPEC):
    return compute(spec, model, Place(), WaitingDecision(), demonstrations())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def counted():
    return found(planted())


def test_a_model_that_counts_is_found_to_count(counted):
    assert counted.established, list(counted.reasons())
    assert {c.id: c.verdict for c in counted.claims} == {
        "one_count": Verdict.CONFIRMED,
        "last_state_counts": Verdict.CONFIRMED,
        "follows_the_clock": Verdict.CONFIRMED,
        "diagonal_by_counting": Verdict.CONFIRMED,
        "time_is_up_is_read": Verdict.CONFIRMED,
    }


def test_its_numbers_are_those_that_were_planted(counted):
    ways, layers, curve = (counted.tables[name] for name in ("ways", "layers", "curve"))
    own = ways[(ways.model == "trained") & ways.way.isin([TIME, WHOLE_CLOCK])]
    np.testing.assert_allclose(own[["slope", "back"]], 1, atol=1e-3)
    at = layers.set_index(["source", "point"]).rho
    np.testing.assert_allclose(at[ASKED, 0], 0, atol=1e-4)
    np.testing.assert_allclose(at[WHOLE_CLOCK, 0], 1, atol=1e-3)
    for point in (1, 2):
        for source, expected in (
            (ASKED, 1),
            (WHOLE_CLOCK, 1),
            (SAME_STEPS, 1),
            (RECEIVER_STEPS, 0),
        ):
            np.testing.assert_allclose(at[source, point], expected, atol=1e-3)
    greedy = curve[(curve.how == GREEDY) & curve.possible]
    np.testing.assert_allclose(greedy.length, greedy.expected)
    np.testing.assert_allclose(greedy.followed.dropna(), 1)


def test_changes_are_those_of_the_log_odds(counted):
    changes = counted.tables["changes"]
    # Against two ways of waiting the log-odds are logit[forward] - ln 2: a step is worth `size`.
    np.testing.assert_allclose(changes.change, -2.0 * changes["shift"], atol=0.01)


@pytest.mark.parametrize(("time", "slope"), [(0.0, 0.0), (3.0, 3.0)])
def test_a_clock_of_another_pace_is_no_count(time, slope):
    model = planted(time=time)
    with torch.no_grad():  # so that it does not stop at once, or never
        model.unembed.b_U[FORWARD] -= (time - 1) * 8
    result = found(model)
    ways = result.tables["ways"]
    own = ways[(ways.model == "trained") & (ways.way == WHOLE_CLOCK)]
    np.testing.assert_allclose(own.slope, slope, atol=1e-2)
    if result.established:
        assert result.claim("one_count").verdict is Verdict.NOT_CONFIRMED
        # One that runs at another pace is followed all the same: a clock that is ahead rings earlier.
        assert result.claim("follows_the_clock").verdict.states is (time > 0)
        assert not result.claim("diagonal_by_counting").verdict.states


def test_a_model_that_is_not_asked_counts_nothing():
    result = found(planted(asks=0.0))
    assert not result.established
    assert "change of log-odds by reward-to-go" in next(result.reasons())


def test_untrained_models_make_no_statement():
    stated = []
    for seed in range(6):
        stage = tiny("dt.windows.context=20", "dt.model.n_ctx=59")
        model = DecisionTransformerModel(stage.model_config())
        initialise(model, None, 0.5, 100 + seed)
        result = found(model.eval())
        stated += [c.verdict.states for c in result.claims]
    assert np.mean(stated) <= 0.05


@pytest.mark.parametrize(
    "overrides",
    [
        ("dt.windows.context=4",),
        ("dt.reward_to_go=false",),
        ("dt.windows.context=20", "dt.model.n_ctx=59", "dt.model.n_layers=1"),
        ("dt.windows.padding=left", "dt.initialisation.centre_state=false"),
    ],
)
def test_any_model_is_measured(overrides):
    model = DecisionTransformerModel(tiny(*overrides).model_config())
    initialise(model, None, 0.5, 0)
    result = found(model.eval())
    assert result.checks and all(check.holds for check in result.checks)
    assert not any(claim.verdict.states for claim in result.claims)


def test_returns_that_name_no_steps_leave_nothing_to_measure():
    assert steps_named(demonstrations(worth=0.0)) is None
    result = compute(SPEC, planted(), Place(), WaitingDecision(), demonstrations(0.0))  # type: ignore[arg-type]
    assert not result.established and "worth" in result.summary


def test_steps_named_are_those_of_the_environment():
    named = steps_named(demonstrations())
    assert named is not None
    np.testing.assert_allclose(named.steps(np.array([0.1, 0.955])), [H, 1], atol=1e-4)
    np.testing.assert_allclose(named.target(named.steps(0.4)), 0.4)
    assert (named.shortest, named.longest) == (1, H)


@pytest.mark.parametrize("by", [-2, 3])
@pytest.mark.parametrize("time", ["learned", "linear"])
@torch.no_grad()
def test_a_reset_clock_reads_the_tables_of_other_steps(by, time):
    whole = ("dt.windows.context=20", "dt.model.n_ctx=59", f"dt.model.time_embedding={time}")
    model = DecisionTransformerModel(tiny(*whole).model_config())
    initialise(model, None, 0.5, 0)
    twin = reset_clock(model, by, 20)
    steps = 5
    context = Context.of(
        one_hot=torch.zeros(1, steps, 980),
        action=torch.zeros(1, steps, dtype=torch.long),
        reward_to_go=torch.full((1, steps), 0.4),
        timestep=torch.arange(steps)[None],
    )
    step_n = torch.arange(14) // 3
    place_n = (step_n + by).clamp(min=0) * 3 + torch.arange(14) % 3
    plain = model.embed(context) - model.embed.time(step_n)[None]
    wanted = plain + model.embed.time((step_n + by).clamp(min=0)) + model.pos_embed.W_pos[place_n]
    assert (twin.residual(context, 0) - wanted).abs().max() < 1e-5
    assert (reset_clock(model, 0, 20)(context) - model(context)).abs().max() < 1e-6


def test_places_tell_time_only_where_windows_do_not_slide():
    cfg = tiny("dt.windows.context=20", "dt.model.n_ctx=59").model_config()
    assert place_tells_time(cfg, 20) and not place_tells_time(cfg, 21)


def test_the_config_says_what_is_wrong():
    assert dict(dataclasses.replace(SPEC, shifts=(0, 3)).check()).keys() == {"shifts"}
    assert dict(dataclasses.replace(SPEC, alike=(1.5, 2.0)).check()).keys() == {"alike"}
    assert not list(SPEC.check())
    built = build_group("analysis/countdown")
    assert not list(built.check())
    for field in ("shifts", "offsets"):
        far = dataclasses.replace(built, **{field: (3, -built.env.horizon)})
        assert [name for name, _ in far.check()] == [field]
