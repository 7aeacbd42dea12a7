"""Dictionaries are trained: gradients, controls, kills, numbers, and what is refused."""

from __future__ import annotations

import dataclasses
import math
import os
import signal

import numpy as np
import pytest
import torch

from dtx.activations.stored import Activations, Part
from dtx.dictionary.measure import measure
from dtx.dictionary.networks.network import LEAST_COSINE
from dtx.dictionary.networks.sparse import largest
from dtx.dictionary.networks.topk import TopKNetwork
from dtx.dictionary.spec import How
from dtx.dictionary.training import rate_share
from dtx.errors import UserError
from dtx.report import read_curves, read_metrics
from dtx.running.runner import run
from dtx.store.store import used
from tests.dictionary import training as toy

HOOK = "blocks.1.hook_resid_post"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A store that holds a tiny model's activations."""
    from dtx.store.store import Store

    store = Store(tmp_path_factory.mktemp("activations") / "store")
    with used(store):
        toy.make(store, toy.stage().activations)
        yield store


@pytest.fixture(scope="module")
def stored(shared) -> Activations:
    return toy.stage().activations.load()


# --- gradients ---------------------------------------------------------------------------------------


def autograd(network, x, weight, k, dead=None):
    """The same loss, written down plainly."""
    before = x @ network.W_enc.T + network.b_enc
    values, index = before.topk(k, dim=1)
    on = torch.zeros_like(before).scatter(1, index, values.relu())
    error = x - (on @ network.W_dec + network.b_dec)
    loss = (weight * error.square().sum(1)).mean()
    if dead is not None:
        number = int(dead.sum())
        most = min(x.shape[1] // 2, number)
        masked = before.masked_fill(~dead, -torch.inf)
        values, index = masked.topk(most, dim=1)
        second = torch.zeros_like(before).scatter(1, index, values.relu()) @ network.W_dec
        share = 0.5 * min(1.0, number / (x.shape[1] // 2))
        loss = loss + share * (weight * (error.detach() - second).square().sum(1)).mean()
    loss.backward()
    return loss.item()


@pytest.mark.parametrize("how", How)
@pytest.mark.parametrize("dead", [False, True])
def test_sparse_gradients_are_those_of_autograd(how, dead):
    network, (x, weight) = toy.network(TopKNetwork, how=how), toy.batch()
    if dead:
        network.last_on[::2] = -100
    loss = network.gradients(x, x, weight, 1)
    mask = network.dead(1) if dead else None  # what was on just now is not dead
    found = toy.gradients(network)
    network.zero_grad()
    wanted_loss = autograd(network, x, weight, 3, mask)
    wanted = toy.gradients(network)
    assert set(found) == set(wanted) and "b_dec" in found
    assert loss == pytest.approx(wanted_loss, rel=1e-5)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("f", "k"), [(64, 3), (64, 9), (63, 5), (8, 8), (40, 4)])
def test_the_largest_are_those_of_torch(f, k):
    x = torch.randn(30, f, generator=torch.Generator().manual_seed(f + k))
    values, index = largest(x, k)
    assert torch.equal(x.gather(1, index), values)
    assert torch.equal(values.sort().values, x.topk(k).values.sort().values)


def test_a_feature_that_was_not_on_for_long_is_dead_and_comes_back():
    network, (x, weight) = toy.network(TopKNetwork, revive=1.0), toy.batch(200)
    with torch.no_grad():
        network.b_enc[:16] = -2.0
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    shares = []
    for step in range(150):
        network.gradients(x, x, weight, step)
        network.before()
        optimizer.step()
        network.after()
        shares.append(network.dead(step + 1).float().mean().item())
    assert max(shares) >= 0.25 and shares[-1] < max(shares) / 3


# --- controls ----------------------------------------------------------------------------------------


def test_controls_keep_what_is_random(shared):
    what = toy.stage("how=[trained,frozen_decoder,soft_frozen_decoder,frozen_encoder]", "steps=60")
    toy.make(shared, what)
    found, start = what.load(), toy.stage("steps=0", "how=[trained]")
    toy.make(shared, start)
    (name,) = start.load()
    first = start.load()[name]
    trained, frozen, soft, encoder = (found[n] for n in found)

    def cosine(one):
        return (one.weights["W_dec"] * first.weights["W_dec"]).sum(1)

    for one in (trained, frozen, soft, encoder):
        norms = one.weights["W_dec"].norm(dim=1)
        torch.testing.assert_close(norms, torch.ones_like(norms), rtol=0, atol=1e-5)
    assert torch.equal(frozen.weights["W_dec"], first.weights["W_dec"])
    assert not torch.equal(frozen.weights["W_enc"], first.weights["W_enc"])
    assert cosine(soft).min() >= LEAST_COSINE - 1e-5 and cosine(soft).min() < 0.99
    x = torch.from_numpy(np.asarray(what.activations.load().array(HOOK)[:200], np.float32))
    torch.testing.assert_close(encoder.encode(x), first.encode(x), rtol=1e-4, atol=1e-4)
    assert cosine(encoder).min() < 0.99
    frame = found.frame.set_index("how")["explained_variance"]
    assert frame["trained"] > frame["frozen_decoder"] + 0.05
    assert frame["trained"] >= frame["soft_frozen_decoder"] - 0.01
    assert frame["trained"] > start.load().frame["explained_variance"][0] + 0.1


# --- the loop ----------------------------------------------------------------------------------------


def test_the_rate_rises_and_falls():
    shares = [rate_share(step, 100, 10, 0.3) for step in range(100)]
    assert shares[0] == pytest.approx(1 / 11) and max(shares) == 1.0
    assert shares[:10] == sorted(shares[:10]) and shares[70:] == sorted(shares[70:], reverse=True)
    assert shares[69] == 1.0 and shares[-1] == pytest.approx(1 / 30)
    assert rate_share(99, 100, 0, 0.0) == 1.0


# --- the artefact ------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalise", ["true", "false"])
def test_files_hold_what_fits_the_models_own_activations(shared, stored, normalise):
    """The numbers of the table are those of the files, by their definition over all held-out rows."""
    what = toy.stage(f"normalise={normalise}", "k=[2,4]", "width=[24,32]")
    toy.make(shared, what)
    found = what.load()
    assert len(found) == 4 and found.frame["sparsity"].tolist() == [2.0, 4.0, 2.0, 4.0]
    rows = stored.rows("prefix", Part.HELD_OUT)
    x = torch.from_numpy(np.asarray(stored.array(HOOK)[rows], np.float32))
    count = torch.from_numpy(stored.columns["count"][rows].astype(np.float32))
    mean = (count @ x) / count.sum()
    for line in found.frame.itertuples():
        sae = found[line.name]
        assert sae.hook_name == HOOK and sae.k == line.sparsity
        features = sae.encode(x)
        error, deviation = (sae.decode(features) - x).square().sum(1), (x - mean).square().sum(1)
        wanted = 1 - (count @ error / (count @ deviation)).item()
        of_ratios = 1 - (count @ (error / deviation) / count.sum()).item()
        assert line.explained_variance == pytest.approx(wanted, abs=1e-4)
        assert abs(line.explained_variance - of_ratios) > 1e-3  # published by mistake: SAEBench #61
        l0 = (count @ (features > 0).float().sum(1) / count.sum()).item()
        assert line.l0 == pytest.approx(l0, rel=1e-4)
        assert line.dead_share == pytest.approx((~(features > 0).any(0)).float().mean().item())
        assert line.loss == pytest.approx((count @ error / count.sum()).item() / 16, rel=1e-3)
        assert 0.3 < line.explained_variance < 1
    metrics = read_metrics(what.path)
    assert metrics["dictionary/explained_variance"] == pytest.approx(
        found.frame["explained_variance"].mean()
    )
    assert metrics["dictionary/count"] == 4


def test_the_mean_explains_nothing_and_the_identity_all(stored):
    from dtx.dictionary.autoencoder import SparseAutoencoder

    rows = stored.rows("prefix", Part.HELD_OUT)
    x = np.asarray(stored.array(HOOK)[rows], np.float64)
    count = stored.columns["count"][rows].astype(np.float64)
    mean = torch.from_numpy((count @ x / count.sum()).astype(np.float32))
    eye = torch.eye(16)
    both = {"W_enc": torch.cat([eye, -eye], 1), "W_dec": torch.cat([eye, -eye])}
    identity = {**both, "b_dec": mean, "b_enc": torch.zeros(32)}
    whole = measure(SparseAutoencoder("standard", identity, HOOK), stored, rows)
    nothing = {**identity, "W_dec": torch.zeros(32, 16)}
    none = measure(SparseAutoencoder("standard", nothing, HOOK), stored, rows)
    assert whole.explained_variance == pytest.approx(1, abs=1e-10)
    assert none.explained_variance == pytest.approx(0, abs=1e-6) and none.loss > whole.loss


def test_each_dictionary_is_what_it_is_alone(shared):
    both = "blocks.0.hook_resid_post", HOOK
    activations = dataclasses.replace(toy.stage().activations, hooks=both)
    together = toy.stage("k=[3,4]", "seeds=[0,1]", "steps=20", activations=activations)
    toy.make(shared, together)
    assert len(together.load()) == 8
    for hook, k, seed in ((both[0], 4, 1), (HOOK, 3, 0)):
        words = (f"k=[{k}]", f"seeds=[{seed}]", "steps=20")
        alone = toy.stage(*words, activations=activations, hooks=(hook,))
        toy.make(shared, alone)
        (name,) = alone.load()
        for tensor, wanted in alone.load()[name].weights.items():
            assert torch.equal(together.load()[name].weights[tensor], wanted)


def test_curves_rise_to_what_is_measured(shared):
    what = toy.stage("steps=120", "k=[4,6]")
    toy.make(shared, what)
    points = read_curves(what.path)
    assert [p["step"] for p in points] == list(range(1, 121))
    explained = [p["dictionary/explained_variance"] for p in points]
    assert explained[-1] > explained[0] + 0.1
    frame = what.load().frame
    assert explained[-1] == pytest.approx(frame["explained_variance"].mean(), abs=0.08)
    for name, line in frame.set_index("name").iterrows():
        assert points[-1][f"{name}/l0"] == pytest.approx(line["l0"], abs=0.1)
    assert all(p["dictionary/loss"] > 0 and 0 <= p["dictionary/dead_share"] < 1 for p in points)


def test_files_after_kills_are_those_without_to_the_bit(store, experiment_of):
    what = toy.stage("seeds=[0,1]", "how=[trained,soft_frozen_decoder]", "dead_after=4", "steps=30")
    toy.make(store, what)
    wanted = toy.files(what.path)
    assert {"curves.jsonl", "headline.json", "tables/dictionaries.parquet"} < set(wanted)
    store.invalidate(what.label)
    for kill_at in (13, 30):
        assert _forked(lambda: _killed(store, what, kill_at)) == -signal.SIGKILL  # noqa: B023
    toy.make(store, what)
    assert toy.files(what.path) == wanted


def _killed(store, what, step):
    from dtx.dictionary import training

    real = training.DictionaryModule.training_step

    def until(self, number, _):
        if number == step - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        real(self, number, _)

    training.DictionaryModule.training_step = until
    toy.make(store, what)


def _forked(work) -> int:
    if (pid := os.fork()) == 0:
        try:
            work()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# --- bad input ---------------------------------------------------------------------------------------


def failed(what, store) -> str:
    with pytest.raises(UserError) as error:
        toy.make(store, what)
    assert not store.has(what)
    return str(error.value)


def test_more_features_than_vectors_are_refused(shared):
    told = failed(toy.stage("width=[24,20000]"), shared)
    assert "dictionary.width=20000" in told and "distinct vectors to train on" in told


def test_a_batch_beyond_the_rows_is_refused(shared):
    told = failed(toy.stage("batch_size=100000"), shared)
    assert "dictionary.batch_size=100000" in told and "rows to train on" in told


def test_a_loss_that_is_no_number_is_told_with_its_step(shared):
    what = toy.stage()
    with pytest.MonkeyPatch.context() as patch:
        real = TopKNetwork.gradients

        def broken(self, x, y, weight, step):
            return math.nan if step == 12 else real(self, x, y, weight, step)

        patch.setattr(TopKNetwork, "gradients", broken)
        told = failed(what, shared)
    assert "blocks.1.hook_resid_post-24-4-0: the loss is not finite at step 12" in told
    assert "lower dictionary.learning_rate (it is 0.002)" in told


def test_all_features_dead_names_rate_and_sparsity(shared, monkeypatch):
    real = TopKNetwork.__init__

    def silent(self, *arguments):
        real(self, *arguments)
        with torch.no_grad():
            self.b_enc.fill_(-1e4)

    monkeypatch.setattr(TopKNetwork, "__init__", silent)
    told = failed(toy.stage("dead_after=3", "revive=0"), shared)
    assert "all 24 features are dead at step 4: none was on in the last 3 steps" in told
    assert "lower dictionary.learning_rate (it is 0.002)" in told
    assert "another dictionary.k (it is 4)" in told


def test_the_command_line_trains(store, experiment_of):
    run(experiment_of(what := toy.stage("steps=4")))
    assert store.has(what) and not (store.folder(what) / "resume.ckpt").exists()
    assert "explained variance" in what.summary()
