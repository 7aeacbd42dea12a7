"""Our points of activations against TransformerLens's: same calls, same numbers."""

import pytest
import torch
from torch import nn

from dtx.dt.forward import run_with_cache
from dtx.dt.hook_points import HookedModule, HookPoint
from dtx.errors import UserError
from tests.dt.test_model import build, contexts


def net(root, point):
    """A small model on somebody's classes: three activations, one by head."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(6, 6)
            self.hook_z, self.hook_out = point(), point()

        def forward(self, x):
            z = self.hook_z(self.linear(x).unflatten(-1, (2, 3)))
            return self.hook_out(z.flatten(-2).tanh())

    class Net(root):
        def __init__(self):
            super().__init__()
            self.hook_embed = point()
            self.blocks = nn.ModuleList([Block(), Block()])
            self.setup()

        def forward(self, x):
            x = self.hook_embed(x)
            for block in self.blocks:
                x = block(x)
            return x

    torch.manual_seed(0)
    return Net()


@pytest.fixture
def both():
    theirs = pytest.importorskip("transformer_lens", reason="an extra")
    from transformer_lens.hook_points import HookPoint as TheirPoint

    return net(HookedModule, HookPoint), net(theirs.HookedRootModule, TheirPoint)


def inputs(windows=3):
    return torch.linspace(-1, 1, windows * 4 * 6).reshape(windows, 4, 6)


def same(ours, theirs):
    assert list(ours) == list(theirs)
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


FILTERS = [None, "blocks.0.hook_z", ["blocks.1.hook_out", "hook_embed"], lambda n: "hook_z" in n]
SPANS = [None, 1, -1, (1, 3), (0, 4, 2), [0, 3]]


@pytest.mark.parametrize("names", FILTERS)
@pytest.mark.parametrize("span", SPANS)
def test_caches_are_the_same(both, names, span):
    for windows, drop in ((3, False), (1, True)):
        results = [
            m.run_with_cache(
                inputs(windows), names_filter=names, pos_slice=span, remove_batch_dim=drop
            )
            for m in both
        ]
        assert torch.equal(results[0][0], results[1][0])
        same(results[0][1], results[1][1])


def test_gradients_are_kept_the_same(both):
    caches = []
    for model in both:
        model.forward, forward = lambda x, f=model.forward: f(x).sum(), model.forward
        caches.append(model.run_with_cache(inputs(), incl_bwd=True)[1])
        assert forward is not None
    assert "blocks.0.hook_z_grad" in caches[0]
    same(*caches)


def test_edits_of_values_and_gradients_are_the_same(both):
    seen = []
    for model in both:
        values = []

        def double(value, hook, values=values):
            values.append((hook.name, tuple(value.shape)))
            return value * 2

        x = inputs().requires_grad_()
        out = model.run_with_hooks(
            x,
            fwd_hooks=[("hook_embed", double), (lambda n: n.endswith("hook_z"), double)],
            bwd_hooks=[("blocks.0.hook_out", lambda gradient, hook: (gradient * 3,))],
            reset_hooks_end=False,
        )
        out.sum().backward()
        model.reset_hooks()
        seen.append((out.detach(), x.grad, values))
    for ours, theirs in zip(seen[0][:2], seen[1][:2], strict=True):
        assert torch.equal(ours, theirs)
    assert seen[0][2] == seen[1][2] and len(seen[0][2]) == 3


def test_hooks_come_and_go_the_same(both):
    """Inside and outside of blocks, permanent ones, and ones before the others."""
    counts = []
    for model in both:
        point, count = model.blocks[0].hook_out, []

        def state(model=model, count=count):
            count.append({name: len(handles) for name, handles in model.list_hooks().items()})

        def nothing(value, hook):
            return None

        model.add_hook("hook_embed", nothing)
        model.add_perma_hook("blocks.0.hook_out", nothing)
        with model.hooks(fwd_hooks=[("hook_embed", nothing)]):
            with model.hooks(bwd_hooks=[(lambda name: True, nothing)]):
                state()
            state()
        state()
        model.add_caching_hooks("blocks.1.hook_z")
        state()
        count.append((point.has_hooks(including_permanent=False), point.has_hooks("fwd")))
        model.reset_hooks()
        state()
        model.reset_hooks(including_permanent=True)
        state()
        counts.append(count)
    assert counts[0] == counts[1]
    assert counts[0][0]["hook_embed"] == 3 and counts[0][-1] == {}
    assert [m.context_level for m in both] == [0, 0]


def test_the_first_of_several_hooks_is_the_one_put_before_the_others(both):
    for model in both:
        order = []
        point = model.blocks[1].hook_z
        point.add_hook(lambda value, hook, order=order: order.append("second"))
        point.add_hook(lambda value, hook, order=order: order.append("first"), prepend=True)
        point.ctx["kept"] = 1
        model(inputs())
        assert order == ["first", "second"] and point.layer() == 1
        model.reset_hooks()
        assert not point.ctx


def test_an_activation_is_found_by_its_short_name():
    stage, network = build()
    _, cache = run_with_cache(network, contexts(stage))
    assert torch.equal(cache["pattern", 1], cache["blocks.1.attn.hook_pattern"])
    assert torch.equal(cache["resid_pre", -1], cache["blocks.1.hook_resid_pre"])
    assert torch.equal(cache["post", 0], cache["blocks.0.mlp.hook_post"])
    assert torch.equal(cache["embed"], cache["hook_embed"])
    with pytest.raises(UserError, match=r"no activation 'hook_embd' was kept \(did you mean"):
        cache["hook_embd"]


def test_without_transformer_lens_its_cache_is_one_line(monkeypatch):
    stage, network = build()
    _, cache = run_with_cache(network, contexts(stage), "hook_embed")
    monkeypatch.setitem(__import__("sys").modules, "transformer_lens", None)
    with pytest.raises(UserError, match=r"pip install 'dtx\[transformer-lens\]'"):
        cache.transformer_lens()
