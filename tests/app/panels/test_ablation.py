import dataclasses

import numpy as np
import pytest
import torch

from dtx.analysis.ablation.nodes import AblatedNode, hook_of, units
from dtx.analysis.core.windows import beginnings, real_tokens
from dtx.app.models import Loader
from dtx.app.panels.ablation import Parameters, compute
from dtx.dt.rollout import decision_contexts
from tests.app.panels.conftest import FLIP, KEY_LEFT
from tests.dt import toy


@pytest.mark.parametrize("name", ["memory1", "memory2", "clone", "plain", "planted"])
def test_every_node_is_a_plain_run_with_it_silenced(name, ask, explorer):
    (cell,) = ask(f"#1&m={name}&{KEY_LEFT}&e={FLIP}", "ablation", directions=2)
    data = cell["data"]
    model = Loader().model(explorer.catalogue.choose(name))
    decision = explorer.catalogue.places()["memory"].environment.decision
    windows, layouts = decision_contexts(model, decision, [0.9])[0], list(decision.layouts)
    for side, layout in (("original", "key/left"), ("edited", "ball/right")):
        context, own = windows[layouts.index(layout)], data[side]
        with torch.no_grad():
            whole = model(context)[0, -1]
            assert own["ld"] == pytest.approx(float(whole[0] - whole[1]), abs=1e-5)
            for p, node in enumerate(data["nodes"]):
                hook = AblatedNode.parse(node).silence()
                logits = model.run_with_hooks(context, fwd_hooks=[hook])[0, -1]
                expected = float(logits[0] - logits[1])
                assert own["ablated"][p] == pytest.approx(expected, abs=1e-4), node
                assert own["change"][p] == pytest.approx(expected - own["ld"], abs=1e-4), node
                assert own["flip"][p] == (logits.argmax() != whole.argmax())
        assert np.isfinite(own["random"]).all() and (own["kl"] >= 0).all()
    assert data["check"]["holds"]


@pytest.mark.parametrize("name", ["memory1", "leftpad", "clone"])
def test_means_are_those_of_the_training_episodes_first_steps(name, ask, moment):
    text = f"#1&m={name}&{KEY_LEFT}"
    (cell,) = ask(text, "ablation", method="mean")
    assert "episodes are not here" in cell["error"]
    here = moment(text)
    episodes = toy.episodes(200, horizon=20)
    here.data = dataclasses.replace(here.data, episodes=episodes)
    for _ in range(2):  # made, then kept
        data = compute(here, Parameters(method="mean"))
    reference, _ = beginnings(episodes, here.cfg, 5, 256, 1)
    context, model = here.original.context, here.model
    real = real_tokens(context, here.cfg)[0]
    with torch.no_grad():
        _, cache = model.run_with_cache(reference)
        for p, name in enumerate(data["nodes"]):
            node = AblatedNode.parse(name)
            hook = hook_of(node.layer, node.kind)
            mean = cache[hook].mean(0)

            def replace(value, hook, node=node, mean=mean):
                value = value.clone()
                own, new = units(value, node.kind), units(mean[None], node.kind)
                own[:, real, node.unit] = new[:, real, node.unit]
                return value

            logits = model.run_with_hooks(context, fwd_hooks=[(hook, replace)])[0, -1]
            expected = float(logits[0] - logits[1])
            assert data["original"]["ablated"][p] == pytest.approx(expected, abs=1e-4), name


def test_what_the_planted_circuit_needs_is_needed(ask):
    (cell,) = ask(f"#1&m=planted&{KEY_LEFT}&e={FLIP}", "ablation")
    data = cell["data"]
    assert data["original"]["random"] is None
    size = np.abs(data["original"]["change"]) / abs(data["original"]["ld"])
    needed = {node for node, share in zip(data["nodes"], size, strict=True) if share > 0.5}
    assert {"L0 MLP", "L1H0", "L1 MLP"} <= needed


def test_padding_is_left_alone(ask, moment):
    text = f"#1&m=leftpad&{KEY_LEFT}"
    (cell,) = ask(text, "ablation", tokens="last")
    (whole,) = ask(text, "ablation")
    here = moment(text)
    own = cell["data"]["original"]
    assert own["ld"] == pytest.approx(float(here.ld(here.original.logits)), abs=1e-5)
    assert not np.allclose(own["change"], whole["data"]["original"]["change"], atol=1e-4)
    last = here.model.cfg.n_layers - 1  # read at the last state alone: where is all the same
    for p, node in enumerate(cell["data"]["nodes"]):
        if node in (f"L{last} MLP", f"L{last}H0"):
            every = whole["data"]["original"]["change"][p]
            assert own["change"][p] == pytest.approx(every, abs=1e-5)
