"""Rollouts under edits: equal contexts are computed once only where they are edited alike."""

from functools import partial

import numpy as np
import pytest
import torch

from dtx.dt.edits import Depends, Edit
from dtx.dt.history import History
from dtx.dt.incremental import Acting
from dtx.dt.rollout import rollout, rollouts
from tests.dt.test_rollout import Corridor, network

POINT = "blocks.1.hook_resid_post"
N = 300  # more than are computed at once


def shift(value, hook):
    return value + torch.linspace(-5, 5, value.shape[-1])


def noise(value, hook, generator):
    return value + 5 * torch.randn(value.shape, generator=generator)


def centred(value, hook):
    """Of a batch: in a batch of equal windows nothing but the mean is left."""
    return value - value.mean(0)


def undecided():
    """A model without bias: what is edited decides."""
    model = network()
    with torch.no_grad():
        model.unembed.b_U.zero_()
    return model


def first_logits(model, hook, n=N):
    """Those of n equal contexts: all stand at the same start."""
    history = History(model.cfg, n, 12)
    history.see(Corridor([4] * n).reset(), np.zeros(n, np.float32))
    with torch.inference_mode(), model.hooks(fwd_hooks=[(POINT, hook)]):
        return Acting(model, history).logits(np.arange(n))


def sizes_of(model, hook):
    """How many windows come by at a time."""
    sizes = []

    def count(value, hook, inner):
        sizes.append(len(value))
        return inner(value, hook=hook)

    if isinstance(hook, Edit):
        first_logits(model, Edit(partial(count, inner=hook.function), hook.depends))
    else:
        first_logits(model, partial(count, inner=hook))
    return sizes


@pytest.mark.parametrize("said", [True, False])
def test_every_episode_has_its_own_draw(said):
    hook = partial(noise, generator=torch.Generator().manual_seed(0))
    logits = first_logits(network(), Edit(hook, Depends.chance) if said else hook)
    assert len(np.unique(logits, axis=0)) == N


def test_noise_parts_greedy_episodes_of_one_world():
    """Equal worlds, greedy actions: only the noise can part them, at every step anew."""
    model = undecided()
    alike = rollout(model, Corridor([4] * 40), np.zeros(40), seed=0, greedy=True)
    assert len(set(alike.length.tolist())) == 1
    hook = Edit(partial(noise, generator=torch.Generator().manual_seed(0)), Depends.chance)
    with model.hooks(fwd_hooks=[(POINT, hook)]):
        played = rollout(model, Corridor([4] * 40), np.zeros(40), seed=0, greedy=True)
    assert len(set(played.length.tolist())) > 1


@pytest.mark.parametrize(
    ("hook", "sizes"),
    [
        (Edit(shift, Depends.token), [1]),
        (Edit(shift, Depends.window), [1]),
        (Edit(shift, Depends.chance), [128, 128, 44]),
        (Edit(shift, Depends.batch), [N]),
        (shift, [N]),
    ],
)
def test_windows_come_by_as_the_edit_depends_on_them(hook, sizes):
    assert sizes_of(network(), hook) == sizes


def test_an_edit_of_windows_plays_alike_whatever_it_says():
    model = undecided()
    starts, targets = [3, 4, 5, 4] * 10, np.repeat([0.1, 0.9], 20).astype(np.float32)
    lengths = []
    for hook in (shift, *(Edit(shift, depends) for depends in Depends)):
        with model.hooks(fwd_hooks=[(POINT, hook)]):
            lengths.append(rollout(model, Corridor(starts), targets, seed=3).length)
    assert all((lengths[0] == other).all() for other in lengths)
    plain = rollout(model, Corridor(starts), targets, seed=3).length
    assert (lengths[0] != plain).any()


class Place:
    horizon = 12

    def vector(self, n: int, seed: int) -> Corridor:
        return Corridor([3 + i % 3 for i in range(n)])


def test_the_batch_of_a_target_does_not_hold_the_other_targets():
    model = network()
    with model.hooks(fwd_hooks=[(POINT, Edit(centred, Depends.batch))]):
        together = rollouts(model, Place(), [0.1, 0.9], episodes=9, seed=3)
        alone = rollouts(model, Place(), [0.9], episodes=9, seed=3)
    assert (together[1].length == alone[0].length).all()
    assert (together[1].returns == alone[0].returns).all()


def test_the_strongest_of_several_edits_counts():
    model = network()
    token, window, chance = (Edit(shift, Depends(each)) for each in range(3))
    assert model.depends is Depends.token
    with model.hooks(fwd_hooks=[(POINT, token)]):
        assert model.depends is Depends.token and model.by_token is model
        model(some_context(model))
    with model.hooks(fwd_hooks=[(POINT, window)]):
        assert model.depends is Depends.window
        with model.hooks(fwd_hooks=[("hook_embed", chance)]):
            assert model.depends is Depends.chance
            model(some_context(model))
        assert model.depends is Depends.window
        model(some_context(model))


@pytest.mark.parametrize("point", ["hook_attn_scores", "hook_pattern"])
def test_an_edit_of_pairs_of_tokens_depends_on_the_window_at_least(point):
    model = network()
    model.add_hook(f"blocks.0.attn.{point}", Edit(lambda value, hook: value, Depends.token))
    assert model.depends is Depends.window and model.by_token is None


@pytest.mark.parametrize("module", ["", "ln_final", POINT])
@pytest.mark.parametrize("way", ["register_forward_hook", "register_forward_pre_hook"])
def test_pytorchs_own_hooks_cannot_say_and_are_not_merged(module, way):
    model = network()
    model.add_hook(POINT, Edit(shift, Depends.window))
    assert model.depends is Depends.window
    part = model.get_submodule(module)
    register = {
        "register_forward_hook": part.register_forward_hook,
        "register_forward_pre_hook": part.register_forward_pre_hook,
    }[way]
    handle = register(lambda *inputs: None)
    assert model.depends is Depends.batch
    handle.remove()
    assert model.depends is Depends.window


def some_context(model):
    history = History(model.cfg, 2, 12)
    history.see(Corridor([3, 4]).reset(), np.zeros(2, np.float32))
    return history.context(np.arange(2))
