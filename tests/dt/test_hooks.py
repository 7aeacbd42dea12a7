"""Hooks that are asked for and never called: none passes in silence, and what is called stays as it was."""

import warnings

import pytest
import torch

from dtx.dt.forward import Changed, run_from
from dtx.dt.hook_points import HookedModule
from dtx.dt.hooks import SwitchedPoint
from dtx.dt.load import untrained_like
from dtx.dt.model import DecisionTransformerModel
from dtx.dt.processing import processed
from dtx.dt.windows import Sampler
from dtx.errors import UserError
from tests.dt.test_model import VARIANTS, build, contexts
from tests.dt.toy import episodes

OFF = {
    "blocks.0.attn.hook_result": "use_attn_result",
    "blocks.1.hook_q_input": "use_split_qkv_input",
    "blocks.1.hook_k_input": "use_split_qkv_input",
    "blocks.1.hook_v_input": "use_split_qkv_input",
    "blocks.0.hook_mlp_in": "use_hook_mlp_in",
}
WRONG = {
    "blocks.0.attn.hook_zz": r"\(did you mean 'blocks\.0\.attn\.hook_z'\?\)",
    "blocks.9.attn.hook_z": r"\(did you mean 'blocks\.1\.attn\.hook_z'\?\)",
    "blocks.-1.hook_resid_pre": r"did you mean 'blocks\.1\.hook_resid_pre'",
    "blocks.0.attn": "did you mean",
    "hook_z": r"there are: blocks\.0\.attn\.hook_z, blocks\.1\.attn\.hook_z",
    "": "no hook point ''",
}
NONE = "the test of names chooses no hook point"


def silence(value, hook):
    return value * 0


def in_block(network, context, *hooks):
    with network.hooks(fwd_hooks=list(hooks)):
        return network(context)


WAYS = {
    "run_with_hooks": lambda m, c, name: m.run_with_hooks(c, fwd_hooks=[(name, silence)]),
    "backward": lambda m, c, name: m.run_with_hooks(c, bwd_hooks=[(name, lambda g, hook: None)]),
    "hooks": lambda m, c, name: in_block(m, c, (name, silence)),
    "one of two": lambda m, c, name: in_block(m, c, ("hook_embed", silence), (name, silence)),
    "add_hook": lambda m, c, name: m.add_hook(name, silence),
    "add_perma_hook": lambda m, c, name: m.add_perma_hook(name, silence),
    "run_with_cache": lambda m, c, name: m.run_with_cache(c, names_filter=name),
    "add_caching_hooks": lambda m, c, name: m.add_caching_hooks(name),
    "run_from": lambda m, c, name: run_from(m, 0, m.residual(c), [(name, silence)]),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_can_never_be_called_is_refused_by_name(way):
    stage, network = build()
    context = contexts(stage)
    cases = {name: rf"{name} is not computed, for {s} is off: .*set_{s}" for name, s in OFF.items()}
    for name, words in (cases | WRONG).items():
        with pytest.raises(UserError, match=words):
            WAYS[way](network, context, name)
    with pytest.raises(UserError, match=NONE):
        WAYS[way](network, context, lambda name: name.endswith("hook_zz"))
    with pytest.raises(UserError, match=r"hook_result is not computed"):
        WAYS[way](network, context, lambda name: name.endswith("hook_result"))
    assert not network.has_hooks


@pytest.mark.parametrize("names", [[], (), set()])
def test_a_list_of_no_names_keeps_nothing_and_is_refused(names):
    stage, network = build()
    for keep in (
        lambda: network.run_with_cache(contexts(stage), names_filter=names),
        lambda: network.add_caching_hooks(names),
    ):
        with pytest.raises(UserError, match="no hook point is named"):
            keep()


def test_every_name_of_a_list_counts():
    stage, network = build()
    for names in (["hook_embed", "nope"], ("hook_embed", "blocks.0.hook_mlp_in")):
        with pytest.raises(UserError, match=r"nope|use_hook_mlp_in"):
            network.run_with_cache(contexts(stage), names_filter=names)
    for names in (("hook_embed",), {"hook_embed"}, ["hook_embed"], "hook_embed"):
        assert set(network.run_with_cache(contexts(stage), names_filter=names)[1]) == {"hook_embed"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_points_are_computed_but_those_whose_switch_is_off(variant):
    stage, network = build(*VARIANTS[variant])
    context = contexts(stage)
    points = {n: p.switch for n, p in network.hook_dict.items() if isinstance(p, SwitchedPoint)}
    assert set(OFF.items()) <= set(points.items()) and len(points) == 10
    for on in ({}, {"use_attn_result"}, {"use_hook_mlp_in"}, set(points.values())):
        for switch in set(points.values()):
            getattr(network, f"set_{switch}")(switch in on)
        _, cache = network.run_with_cache(context)
        # A hook that TransformerLens adds unchecked is called in just these places.
        called = set()

        def note(value, hook, called=called):
            called.add(hook.name)

        for point in network.hook_dict.values():
            point.add_hook(note)
        with torch.no_grad():
            network(context)
        network.reset_hooks()
        assert set(cache) == called == network.computed(None)
        assert called == {n for n in network.hook_dict if n not in points or points[n] in on}


def test_switched_on_they_are_edited():
    stage, network = build()
    context = contexts(stage)
    for switch in set(OFF.values()):
        getattr(network, f"set_{switch}")(True)
    with torch.no_grad():
        plain = network(context)
        for name in OFF:
            assert not torch.equal(
                network.run_with_hooks(context, fwd_hooks=[(name, silence)]), plain
            )


@pytest.mark.parametrize("name", OFF)
def test_a_switch_turned_off_under_a_hook_is_told(name):
    _, network = build()
    turn = getattr(network, f"set_{OFF[name]}")
    turn(True)
    network.add_hook(name, silence)
    with pytest.warns(UserWarning, match=f"hooks are no longer called: {name}"):
        turn(False)
    network.reset_hooks()
    turn(True)
    turn(False)


def test_a_copys_switches_are_its_own():
    _, network = build()
    for copy in (processed(network), untrained_like(network, 0)):
        copy.set_use_attn_result(True)
        assert not network.cfg.use_attn_result
        network.set_use_attn_result(True)
        network.add_hook("blocks.0.attn.hook_result", silence)
        copy.set_use_attn_result(False)
        assert network.cfg.use_attn_result
        network.reset_hooks()
        network.set_use_attn_result(False)


def nothing(network, context):
    pass


def another_model(network, context):
    build()[1](context)


def only_the_first_block(network, context):
    network.residual(context, 1)


@pytest.mark.parametrize("run", [nothing, another_model, only_the_first_block])
def test_a_block_in_which_no_pass_comes_by_is_told(run):
    stage, network = build()
    context = contexts(stage)
    hooks = [("blocks.0.hook_mlp_out", silence), (lambda n: n == "blocks.1.attn.hook_z", silence)]
    with (
        pytest.warns(UserWarning, match="hooks were never called: ") as told,
        network.hooks(fwd_hooks=hooks),
    ):
        run(network, context)
    (one,) = told
    assert one.filename == __file__ and "a test of names" in str(one.message)
    assert ("hook_mlp_out" in str(one.message)) == (run is not only_the_first_block)


def test_going_on_behind_a_hook_is_told():
    stage, network = build()
    resid_bnd = network.residual(contexts(stage), 1)
    with pytest.warns(UserWarning, match=r"never called: blocks\.0\.hook_mlp_out"):
        run_from(network, 1, resid_bnd, [("blocks.0.hook_mlp_out", silence)])


def test_an_error_in_the_block_stays_what_it_is():
    _, network = build()
    with pytest.raises(ZeroDivisionError), network.hooks(fwd_hooks=[("hook_embed", silence)]):
        _ = 1 / 0


def test_hooks_that_stay_are_not_told_of_at_once():
    stage, network = build()
    with network.hooks(fwd_hooks=[("blocks.0.attn.hook_z", silence)], reset_hooks_end=False):
        pass
    ((handle,),) = network.list_hooks().values()
    assert handle.user_hook is silence
    assert not torch.equal(network(contexts(stage)), build()[1](contexts(stage)))


def test_backward_hooks_without_gradients_are_told():
    stage, network = build()
    hooks = [("blocks.0.attn.hook_z", lambda gradient, hook: None)]
    with torch.no_grad(), pytest.warns(UserWarning, match="gradients are off"):
        network.run_with_hooks(contexts(stage), bwd_hooks=hooks)


def test_an_empty_cache_is_told():
    stage, network = build()
    context = contexts(stage)
    for where, settings in ((context[:0], {}), (context, {"pos_slice": (40, 50)})):
        with pytest.warns(UserWarning, match="the cache is empty: hook_embed has shape"):
            network.run_with_cache(where, names_filter="hook_embed", **settings)


def test_passes_that_call_no_hook_refuse_them():
    stage, network = build()
    sampler = Sampler(episodes(), network.cfg, stage.windows, split=0)
    packed = sampler.batch(0, 0, 4)
    needed = Changed.needed(2)
    _, cache = network.run_with_cache(contexts(stage), names_filter=needed)
    Changed(network, cache)
    assert network.packed(packed).isfinite().all()
    network.add_hook("hook_embed", silence)
    with pytest.raises(UserError, match="packed windows pass by no hook"):
        network.packed(packed)
    with pytest.raises(UserError, match="a part of a run passes by no hook"):
        Changed(network, cache)


def test_a_copy_says_that_it_has_no_hooks():
    _, network = build()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        processed(network)
    network.add_hook("hook_embed", silence)
    with pytest.warns(UserWarning, match="the copy has none of the model's hooks"):
        assert not processed(network).has_hooks


MODULES = ["blocks.1", "blocks.1.attn", "blocks.1.attn.hook_pattern", "blocks.1.attn.hook_z"]
MODULES += ["blocks.1.ln1.hook_scale", "blocks.0.mlp", "ln_final", ""]


@pytest.mark.parametrize("module", MODULES)
def test_pytorchs_own_hooks_are_called_where_shortcuts_are_taken(module):
    stage, network = build()
    context = contexts(stage)
    with torch.no_grad():
        plain = network.last_logits(context)
        handle = network.get_submodule(module).register_forward_hook(
            lambda m, x, out: out * torch.linspace(0.5, 1.5, out.shape[-1])
        )
        assert network.by_token is None
        edited, wanted = network.last_logits(context), network(context)[:, -1]
        handle.remove()
    assert network.by_token is network
    torch.testing.assert_close(edited, wanted, rtol=1e-5, atol=1e-5)
    assert (edited - plain).abs().max() > 1e-3


class Unchecked(DecisionTransformerModel):
    """The same model without the checks."""

    hooks = HookedModule.hooks
    add_hook = HookedModule.add_hook
    get_caching_hooks = HookedModule.get_caching_hooks
    run_with_cache = HookedModule.run_with_cache


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_called_gives_the_same_bits_as_without_the_checks(variant):
    stage, network = build(*VARIANTS[variant])
    context = contexts(stage)
    other = Unchecked(network.cfg)
    other.load_state_dict(network.state_dict())
    hooks = [
        ("blocks.0.attn.hook_z", lambda value, hook: value * 1.5),
        (lambda name: name.endswith("hook_mlp_out"), lambda value, hook: value + 1),
    ]
    filters = (None, "hook_embed", ["blocks.0.attn.hook_z"], lambda name: "resid" in name)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        edited = network.run_with_hooks(context, fwd_hooks=hooks)
        assert torch.equal(edited, other.run_with_hooks(context, fwd_hooks=hooks))
        for names in filters:
            logits, cache = network.run_with_cache(context, names_filter=names)
            wanted, known = other.run_with_cache(context, names_filter=names)
            assert torch.equal(logits, wanted) and list(cache) == list(known)
            assert all(torch.equal(cache[name], known[name]) for name in known)
        network.add_hook(*hooks[0])
        assert torch.equal(network(context), other.run_with_hooks(context, fwd_hooks=hooks[:1]))
