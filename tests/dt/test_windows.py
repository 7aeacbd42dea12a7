import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dtx.dataset.episodes import rewards_to_go
from dtx.dt import model as models
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.spec import Balance, Padding
from dtx.dt.training.module import weighted_loss
from dtx.dt.windows import Drawn, Sampler
from dtx.errors import UserError
from tests.dt.toy import episodes, tiny

WAYS = {
    "right": (),
    "left": ("dt.windows.padding=left", "dt.windows.end_share=0.3"),
    "clone": ("dt.reward_to_go=false",),
    "gated without norm": ("dt.model.gated_mlp=true", "dt.model.layer_norm=false"),
}


def sampler_of(*overrides: str, split: int = 0) -> Sampler:
    stage = tiny(*overrides)
    return Sampler(episodes(), stage.model_config(), stage.windows, split)


def test_reward_to_go_is_the_sum_of_rewards_from_there_on():
    data = episodes()
    data.reward[::7] += np.float32(0.25)  # rewards in the middle of episodes too
    found = rewards_to_go(data.reward, data.start, data.length)
    for start, length in zip(data.start, data.length, strict=True):
        for t in range(start, start + length):
            assert found[t] == pytest.approx(data.reward[t : start + length].sum(), abs=1e-6)


def test_reward_to_go_of_failures_is_exactly_zero():
    data = episodes()
    found = rewards_to_go(data.reward, data.start, data.length)
    for start, length in zip(
        data.start[data.outcome > 0], data.length[data.outcome > 0], strict=True
    ):
        assert (found[start : start + length] == 0).all()


@pytest.mark.parametrize("way", ["right", "left"])
def test_windows_hold_what_the_episode_held_and_are_padded_as_declared(way):
    data = episodes()
    sampler = sampler_of("dt.windows.whole_share=1", *WAYS[way])
    drawn = sampler.draw(np.random.default_rng(3), 200)
    context, target, real = sampler.context(drawn)
    to_go = rewards_to_go(data.reward, data.start, data.length)
    table = context["table"]
    assert (table[-1] == 0).all()
    for w in range(200):
        episode = np.searchsorted(data.start, drawn.row[w], side="right") - 1
        begin, length = int(drawn.begin[w]), int(drawn.length[w])
        assert drawn.row[w] == data.start[episode] + begin
        assert begin + length <= data.length[episode] and data.split[episode] == 0
        first = 4 - length if way == "left" else 0
        if way == "left" and begin > 0:
            assert length == 4  # padding only before the start of an episode
        if way == "right" and begin + length < data.length[episode]:
            assert length == 4
        for t in range(4):
            row = drawn.row[w] + t - first
            inside = first <= t < first + length
            assert bool(real[w, t]) == inside
            state = table[context["observation"][w, t]]
            if not inside:
                assert state.sum() == 0
                assert context["action"][w, t] == 7
                assert context["timestep"][w, t] == 0
                if way == "left":
                    assert context["reward_to_go"][w, t] == to_go[drawn.row[w]]
                continue
            assert state.sum() == 147
            assert state[0 * 49 : 11 * 49].reshape(11, 7, 7).argmax(0).tolist() == (
                data.observations[data.observation[row]][..., 0].tolist()
            )
            assert context["action"][w, t] == target[w, t] == data.action[row]
            assert context["reward_to_go"][w, t] == to_go[row]
            assert context["timestep"][w, t] == begin + t - first


@pytest.mark.parametrize("way", WAYS)
def test_packed_batches_have_the_loss_and_gradient_of_naive_padded_ones(way):
    stage = tiny(*WAYS[way])
    sampler = Sampler(episodes(), stage.model_config(), stage.windows, 0)
    network = DecisionTransformerModel(stage.model_config())
    models.initialise(network, 0.2, 0.1, seed=2)
    drawn = sampler.draw(np.random.default_rng(1), 64)
    twice = Drawn(*(np.concatenate([x, x[:40]]) for x in dataclasses.astuple(drawn)))

    batch = sampler.pack(twice)
    assert sum(group.windows for group in batch.packing.groups) <= 64 and batch.windows == 104
    loss, accuracy = weighted_loss(network.packed(batch), batch)
    loss.backward()
    gradients = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()

    context, target, real = sampler.context(twice)
    logits = network(context)
    naive = F.cross_entropy(logits[real], target[real])
    naive.backward()
    torch.testing.assert_close(loss, naive, rtol=1e-5, atol=1e-6)
    assert accuracy == pytest.approx(
        (logits.argmax(-1) == target)[real].float().mean().item(), abs=1e-6
    )
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(
            gradients[name], parameter.grad, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_packed_batches_have_no_padding_tokens():
    sampler = sampler_of()
    batch = sampler.batch(0, 0, 64)
    drawn = sampler.draw(np.random.Generator(np.random.Philox(key=[0, 0])), 64)
    assert batch.content.numel() <= int((drawn.length * 3 - 1).sum())
    assert batch.weight.sum() == drawn.length.sum()
    tokens = [group.tokens for group in batch.packing.groups]
    assert tokens == sorted(set(tokens))


def test_a_batch_is_a_pure_function_of_seed_and_step():
    one, other = sampler_of(), sampler_of()
    other.batch(0, 3, 32)  # what was drawn before does not matter
    for field in ("content", "target", "weight", "timestep", "reward_to_go", "table"):
        assert torch.equal(
            getattr(one.batch(5, 7, 32), field), getattr(other.batch(5, 7, 32), field)
        )
    contents = [one.batch(*key, 32).content.tolist() for key in ((5, 7), (5, 8), (6, 7))]
    assert contents[0] != contents[1] and contents[0] != contents[2]


@pytest.mark.parametrize("balance", Balance)
def test_outcomes_and_first_windows_have_their_shares(balance):
    data = episodes(n=300)
    stage = tiny()
    windows = dataclasses.replace(stage.windows, balance=balance, first_share=0.75)
    sampler = Sampler(data, stage.model_config(), windows, 0)
    drawn = sampler.draw(np.random.default_rng(0), 3000)
    episode = np.searchsorted(data.start, drawn.row, side="right") - 1
    share = np.bincount(data.outcome[episode], minlength=3) / 3000
    first = (drawn.begin == 0).mean()
    # No success outlasts the window here, so successes give first windows only.
    if balance is Balance.returns:
        assert share[0] == pytest.approx(0.375 / 0.875, abs=0.002)
    elif balance is Balance.success:
        assert share[0] == pytest.approx(0.375 / 0.875, abs=0.002)
        assert first == pytest.approx(0.75 / 0.875, abs=0.002)
    elif balance is Balance.outcome:
        assert share[0] == pytest.approx(0.75 / 2.75, abs=0.002)
        assert share[1] == pytest.approx(share[2], abs=0.002)
    else:
        assert first == pytest.approx(0.75, abs=0.002)


def test_rare_returns_are_drawn_as_often_as_others():
    data = episodes(n=300)
    stage = tiny()
    windows = dataclasses.replace(stage.windows, balance=Balance.returns, first_share=1.0)
    sampler = Sampler(data, stage.model_config(), windows, 0)
    drawn = sampler.draw(np.random.default_rng(0), 6000)
    returns = data.returns[np.searchsorted(data.start, drawn.row, side="right") - 1]
    there = data.returns[(data.outcome == 0) & (data.split == 0)]
    assert (returns == 0).mean() == pytest.approx(1 / 2, abs=0.002)
    edges = np.linspace(there.min(), there.max(), 11)
    edges[-1] += 1e-6
    of_all = np.histogram(there, edges)[0]
    counts = np.histogram(returns[returns > 0], edges)[0]
    expected = 1500 * of_all / of_all.sum() + 1500 * (of_all > 0) / (of_all > 0).sum()
    assert (of_all > 0).sum() > 1 and (counts[of_all == 0] == 0).all()
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected.max())


def test_left_padded_windows_end_at_every_step_equally_often():
    data = episodes()
    sampler = sampler_of("dt.windows.padding=left", "dt.windows.balance=none")
    drawn = sampler.draw(np.random.default_rng(0), 40_000)
    last = np.bincount(drawn.row + drawn.length - 1, minlength=len(data.action))
    steps = np.repeat(data.split, data.length) == 0
    assert (last[~steps] == 0).all()
    expected = 40_000 / steps.sum()
    assert np.abs(last[steps] - expected).max() < 6 * np.sqrt(expected)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_windows_are_cut_at_a_step_that_does_not_depend_on_the_episode(share):
    data = episodes(n=300)
    stage = tiny()
    windows = dataclasses.replace(
        stage.windows, first_share=1.0, whole_share=1.0, cut=None, balance=Balance.none
    )
    whole = Sampler(data, stage.model_config(), windows, 0)
    cut = Sampler(data, stage.model_config(), dataclasses.replace(windows, whole_share=share), 0)
    one, other = (s.draw(np.random.default_rng(0), 60_000) for s in (whole, cut))
    assert (one.row == other.row).all() and (other.length <= one.length).all()
    assert (other.length >= 1).all()
    # A step of an episode is kept with the same probability, however long the episode is.
    n = whole.cfg.n_steps
    for step in range(n):
        expected = share + (1 - share) * (1 - step / n)
        for length in np.unique(one.length[one.length > step]):
            there = one.length == length
            if there.sum() > 2000:
                kept = (other.length[there] > step).mean()
                assert kept == pytest.approx(expected, abs=0.03), (step, length)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_cut_windows_show_their_first_steps(share):
    data = episodes(n=300)
    stage = tiny()
    windows = dataclasses.replace(
        stage.windows, first_share=1.0, whole_share=share, cut=3, balance=Balance.none
    )
    sampler = Sampler(data, stage.model_config(), windows, 0)
    drawn = sampler.draw(np.random.default_rng(0), 60_000)
    of = np.searchsorted(data.start, drawn.row, side="right") - 1
    longest = np.minimum(data.length[of], sampler.cfg.n_steps)
    assert ((drawn.length == longest) | (drawn.length == np.minimum(longest, 3))).all()
    for length in np.unique(longest[longest > 3]):
        there = longest == length
        if there.sum() > 2000:
            assert (drawn.length[there] > 3).mean() == pytest.approx(share, abs=0.03)


def test_an_episode_longer_than_the_time_table_is_refused():
    with pytest.raises(UserError, match=r"dt.model.n_timesteps: 6 .* lasts 20"):
        sampler_of("dt.model.n_timesteps=6", "env.max_steps=6")


def test_a_split_without_episodes_is_refused():
    data = dataclasses.replace(episodes(), split=np.zeros(60, np.uint8))
    stage = tiny()
    with pytest.raises(UserError, match="no validation episode"):
        Sampler(data, stage.model_config(), stage.windows, 1)


def test_padding_declares_the_model_too():
    assert tiny("dt.windows.padding=left").model_config().left_padding
    assert tiny().windows.padding is Padding.right
