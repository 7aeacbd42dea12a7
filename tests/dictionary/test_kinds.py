"""The kinds of dictionaries beside TopK: gradients, what is on, files, and what is refused."""

from __future__ import annotations

import dataclasses
import functools
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dtx.activations.stored import Part
from dtx.config.build import ConfigError
from dtx.config.compose import CONF, compose, experiment
from dtx.dictionary.dictionary_stage import SparseStage
from dtx.dictionary.networks.batch_topk import BatchTopKNetwork
from dtx.dictionary.networks.gated import GatedNetwork
from dtx.dictionary.networks.jump_relu import JumpReLUNetwork
from dtx.dictionary.networks.matryoshka import MatryoshkaNetwork
from dtx.dictionary.networks.standard import StandardNetwork
from dtx.dictionary.networks.topk import TopKNetwork
from dtx.dictionary.rows import Scale
from dtx.errors import UserError
from dtx.store.store import Store, used
from tests.dictionary import training as toy

HOOK = "blocks.1.hook_resid_post"
ARCHITECTURES = {
    "topk": "topk",
    "batch_topk": "jumprelu",
    "matryoshka": "jumprelu",
    "standard": "standard",
    "gated": "gated",
    "jump_relu": "jumprelu",
}
NETWORKS = {
    "topk": TopKNetwork,
    "batch_topk": BatchTopKNetwork,
    "matryoshka": functools.partial(MatryoshkaNetwork, nested=(0.25, 0.5)),
    "standard": StandardNetwork,
    "gated": GatedNetwork,
    "jump_relu": functools.partial(JumpReLUNetwork, threshold=0.5, bandwidth=0.4),
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A store that holds a tiny model's activations."""
    store = Store(tmp_path_factory.mktemp("activations") / "store")
    with used(store):
        toy.make(store, toy.stage().activations)
        yield store


# --- gradients ---------------------------------------------------------------------------------------


def of_batch(network, x, weight, budget):
    """The largest features of a batch, taken one after the other while they fit into the budget."""
    before = x @ network.W_enc.T + network.b_enc
    f, left, on = before.shape[1], budget * float(weight.sum()), torch.zeros_like(before)
    for place in before.detach().reshape(-1).argsort(descending=True):
        row, feature = divmod(int(place), f)
        if before[row, feature] <= 0 or weight[row] > left:
            break
        left -= float(weight[row])
        on[row, feature] = 1
    return before * on


def check_gradients(network, loss, found):
    network.zero_grad()
    loss.backward()
    wanted = toy.gradients(network)
    assert set(found) == set(wanted)
    for name, gradient in wanted.items():
        assert gradient.abs().max() > 1e-3
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5)


def test_a_batchs_largest_are_on_and_have_autograds_gradients():
    network, (x, weight) = toy.network(BatchTopKNetwork), toy.batch()
    network.gradients(x, x, weight, 0)
    found, on = toy.gradients(network), of_batch(network, x, weight, 3)
    error = (on @ network.W_dec + network.b_dec - x).square().sum(1)
    check_gradients(network, (weight * error).mean(), found)
    taken = network.taken()
    l0 = float(weight @ (on > 0).float().sum(1) / weight.sum())
    assert taken["l0"] == pytest.approx(l0) and 2.8 < l0 <= 3
    assert float(network.threshold) == pytest.approx(on[on > 0].min().item())
    assert len(set((on > 0).sum(1).tolist())) > 1  # rows have what they need
    network.gradients(x, x, weight, 1)  # now from the running threshold on: the same are on
    assert network.taken()["l0"] == pytest.approx(l0)


def test_nested_parts_have_the_mean_of_their_losses():
    network, (x, weight) = toy.network(NETWORKS["matryoshka"]), toy.batch()
    found_loss = network.gradients(x, x, weight, 0)
    found, on = toy.gradients(network), of_batch(network, x, weight, 3)
    losses = [
        (on[:, :end] @ network.W_dec[:end] + network.b_dec - x).square().sum(1)
        for end in (8, 16, 32)
    ]
    loss = (weight * torch.stack(losses).mean(0)).mean()
    assert found_loss == pytest.approx(loss.item(), rel=1e-5)
    check_gradients(network, loss, found)


def test_an_l1_penalty_is_on_the_features():
    network, (x, weight) = toy.network(StandardNetwork, sparsity=0.7), toy.batch()
    found_loss = network.gradients(x, x, weight, 100)
    found = toy.gradients(network)
    features = F.relu(x @ network.W_enc.T + network.b_enc)
    error = (features @ network.W_dec + network.b_dec - x).square().sum(1)
    loss = (weight * (error + 0.7 * features.sum(1))).mean()
    assert found_loss == pytest.approx(loss.item(), rel=1e-5)
    check_gradients(network, loss, found)
    early = network.gradients(x, x, weight, 0)  # the penalty grows
    assert early < found_loss


def test_gates_are_penalised_and_sizes_are_not():
    one, two = (toy.network(GatedNetwork, sparsity=s) for s in (1e-6, 5.0))
    x, weight = toy.batch()
    for network in (one, two):
        network.gradients(x, x, weight, 100)
    for name in ("b_mag", "r_mag", "W_dec", "b_dec"):
        assert torch.equal(toy.gradients(one)[name], toy.gradients(two)[name])
    rise = toy.gradients(two)["b_enc"] - toy.gradients(one)["b_enc"]
    on = (x @ two.W_enc.T + two.b_enc) > 0
    torch.testing.assert_close(rise, 5.0 * (weight[:, None] * on).mean(0), rtol=1e-3, atol=1e-4)


def test_a_threshold_rises_as_what_is_near_it_costs_more_than_it_brings():
    network, (x, weight) = toy.network(NETWORKS["jump_relu"], sparsity=2.0), toy.batch(200)
    network.gradients(x, x, weight, 100)
    before = (x @ network.W_enc.T + network.b_enc).detach()
    threshold = network.log_threshold.exp().detach()
    near = ((before - threshold).abs() < 0.2).float() / 0.4
    on = F.relu(before) * (before > threshold)
    error = on @ network.W_dec + network.b_dec - x
    gain = F.relu(before) * (2 * error @ network.W_dec.T)  # of the error, by being on
    wanted = -(weight[:, None] * near * (gain + 2.0)).mean(0) * threshold
    torch.testing.assert_close(network.log_threshold.grad, wanted.detach(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["standard", "gated", "jump_relu"])
def test_features_that_are_never_on_are_raised(kind):
    network, (x, weight) = toy.network(NETWORKS[kind], sparsity=1e-3, revive=1.0), toy.batch(200)
    with torch.no_grad():
        network.b_enc[:8] = -12.0
    network.schedule = dataclasses.replace(network.schedule, revive=0.0)
    network.gradients(x, x, weight, 20)
    assert network.dead(20)[:8].all() and not toy.gradients(network)["b_enc"][:8].any()
    network.schedule = dataclasses.replace(network.schedule, revive=1.0)
    network.gradients(x, x, weight, 21)
    assert (toy.gradients(network)["b_enc"][:8] < 0).all()  # a step raises them


# --- files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_file_is_what_was_trained(kind):
    """Features of the file times the scale are those of training, and so is what they reconstruct."""
    network = toy.network(NETWORKS[kind], sparsity=3)
    generator = torch.Generator().manual_seed(2)
    scale = Scale(torch.randn(12, generator=generator), 0.3)
    x, _ = toy.batch(300)
    model = x / scale.factor + scale.mean  # the model's own
    scaled = scale(model)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    if kind in ("batch_topk", "matryoshka"):
        network.threshold.fill_(0.4)
    sae = network.folded(scale)
    before = scaled @ network.W_enc.T + network.b_enc
    if kind == "topk":
        values, index = before.topk(3)
        wanted = torch.zeros_like(before).scatter(1, index, values.relu())
    elif kind == "gated":
        size = F.relu(scaled @ (network.W_enc.T * network.r_mag.exp()) + network.b_mag)
        wanted = size * (before > 0)
    elif kind == "jump_relu":
        wanted = F.relu(before) * (before > network.log_threshold.exp())
    else:
        wanted = F.relu(before) * (before > (0.0 if kind == "standard" else 0.4))
    found = sae.encode(model) * scale.factor
    assert sae.architecture == ARCHITECTURES[kind] and (wanted > 0).any() and (wanted == 0).any()
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
    out = wanted @ network.W_dec + network.b_dec
    torch.testing.assert_close(scale(sae.reconstruct(model)), out, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["batch_topk", "matryoshka", "standard", "gated", "jump_relu"])
def test_a_kind_is_trained(shared, kind):
    """It explains more than at the start, its rows have norm 1, and its numbers are those of its files."""
    start, what = (toy.stage(f"steps={n}", "learning_rate=0.01", kind=kind) for n in (0, 60))
    toy.make(shared, start, what)
    line, first = what.load().frame.iloc[0], start.load().frame.iloc[0]
    sae = what.load()[line["name"]]
    assert sae.architecture == ARCHITECTURES[kind]
    torch.testing.assert_close(sae.weights["W_dec"].norm(dim=1), torch.ones(24), rtol=0, atol=1e-5)
    assert line["explained_variance"] > max(0.3, first["explained_variance"] + 0.05)
    stored = what.activations.load()
    rows = stored.rows("prefix", Part.HELD_OUT)
    x = torch.from_numpy(np.asarray(stored.array(HOOK)[rows], np.float32))
    count = torch.from_numpy(stored.columns["count"][rows].astype(np.float32))
    l0 = (count @ (sae.encode(x) > 0).float().sum(1) / count.sum()).item()
    assert line["l0"] == pytest.approx(l0, rel=1e-4)
    if kind in ("batch_topk", "matryoshka"):
        assert line["l0"] == pytest.approx(4, rel=0.1)  # held-out rows, by the threshold


def test_a_larger_penalty_leaves_fewer_features(shared):
    for kind, weights in (("standard", "0.1,8"), ("gated", "0.1,8"), ("jump_relu", "0.1,8")):
        what = toy.stage(f"penalty=[{weights}]", "learning_rate=0.02", kind=kind)
        toy.make(shared, what)
        few, many = what.load().frame["l0"][1], what.load().frame["l0"][0]
        assert few < 0.9 * many, kind


@pytest.mark.parametrize("kind", sorted(set(NETWORKS) - {"topk"}))
def test_a_kind_goes_on_after_a_kill_to_the_bit(shared, kind, monkeypatch):
    """The state of the kind's own tensors is in the checkpoint, too."""
    from dtx.dictionary import training

    what = toy.stage("steps=14", "checkpoint_every=5", "warm_up=2", "seeds=[3]", kind=kind)
    toy.make(shared, what)
    wanted = toy.files(what.path)
    shared.invalidate(what.label)
    real = training.DictionaryModule.training_step

    def stop(self, step, _):
        if step == 12:
            raise KeyboardInterrupt
        real(self, step, _)

    with monkeypatch.context() as patch:
        patch.setattr(training.DictionaryModule, "training_step", stop)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            toy.make(shared, what)
    toy.make(shared, what)
    assert toy.files(what.path) == wanted


def test_controls_of_a_kind_keep_its_encoder(shared):
    for kind in ("gated", "jump_relu", "batch_topk"):
        how = "how=[frozen_encoder,frozen_decoder]"
        start, what = (toy.stage(f"steps={n}", how, kind=kind) for n in (0, 5))
        toy.make(shared, start, what)
        encoder, decoder = (start.load()[name] for name in start.load())
        after_encoder, after_decoder = (what.load()[name] for name in what.load())
        assert torch.equal(after_encoder.weights["W_enc"], encoder.weights["W_enc"])
        assert not torch.equal(after_encoder.weights["W_dec"], encoder.weights["W_dec"])
        assert torch.equal(after_decoder.weights["W_dec"], decoder.weights["W_dec"])
        assert not torch.equal(after_decoder.weights["W_enc"], decoder.weights["W_enc"])


# --- bad input ---------------------------------------------------------------------------------------


WRONG = {
    "topk k=[2000]": r"k: 2000 features a token of 1024: choose a smaller k",
    "topk k=[8,8]": "k: names 8 twice",
    "topk k=[]": "needs at least one k",
    "topk width=[]": "needs at least one width",
    "topk width=[0]": "must be at least 1",
    "topk width=[64,64]": "width: names 64 twice",
    "topk seeds=[1,1]": "seeds: names 1 twice",
    "topk how=[trained,trained]": "how: names trained twice",
    "topk how=[frozen]": "one of trained, frozen_decoder",
    "topk held_out=row": "one of episode, prefix, view",
    "topk hooks=[blocks.1.hook_resid_pst]": "did you mean 'blocks.1.hook_resid_post'",
    "topk learning_rate=0": "is a learning rate",
    "topk decay=2": "is a share",
    "topk revive=-1": "must be 0 or more",
    "batch_topk k=[2000]": "choose a smaller k",
    "matryoshka nested=[0.5,0.25]": "nested: must rise from share to share",
    "matryoshka nested=[0.0001]": r"nested: 0.0001 of 1024 features is less than one",
    "matryoshka nested=[0.5,1]": "is a share",
    "standard penalty=[0]": "must be above 0",
    "standard penalty=[1,1]": "penalty: names 1.0 twice",
    "gated penalty=[]": "needs at least one penalty",
    "jump_relu threshold=0": "must be above 0",
    "jump_relu bandwidth=-1": "must be above 0",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_told_before_anything_runs(wrong):
    kind, override = wrong.split()
    words = ["target=dictionary", f"dictionary={kind}", f"dictionary.{override}"]
    with pytest.raises(ConfigError) as error:
        experiment(compose(words))
    assert "dictionary." in str(error.value) and re.search(WRONG[wrong], str(error.value))


def test_a_penalty_that_turns_everything_off_names_rate_and_penalty(shared):
    words = ("penalty=[1e4]", "steps=60", "dead_after=5", "revive=0", "warm_up=1")
    with pytest.raises(UserError) as error:
        toy.make(shared, toy.stage(*words, "learning_rate=0.1", kind="standard"))
    told = str(error.value)
    assert "all 24 features are dead at step" in told and "dictionary.learning_rate" in told
    assert "another dictionary.penalty (it is 10000)" in told


def test_every_kind_is_a_config_and_is_tested():
    trained = set()
    for path in (CONF / "dictionary").glob("*.yaml"):
        words = ["target=dictionary", f"dictionary={path.stem}"]
        stage = experiment(compose(words)).targets["dictionary"]
        assert isinstance(stage, SparseStage) and stage.name == path.stem
        trained.add(path.stem)
    assert set(NETWORKS) <= trained


MORE = (
    "width=[1024,2048]",
    "k=[8,16]",
    "seeds=[0,1]",
    "how=[trained,frozen_decoder]",
    "steps=2400",
    "batch_size=4096",
)


@pytest.mark.parametrize("override", MORE)
def test_more_needs_more(override):
    one, more = (
        experiment(compose(["target=dictionary", *words])).targets["dictionary"].resources()
        for words in ([], [f"dictionary.{override}"])
    )
    assert one.seconds < more.seconds and one.all_memory <= more.all_memory
    assert 2e6 < one.all_disk <= more.all_disk
    if not override.startswith("steps"):
        assert one.all_memory < more.all_memory
