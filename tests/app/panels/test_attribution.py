import numpy as np
import pytest
import torch

from dtx.analysis.attribution.compute import attribute
from dtx.app.models import Loader
from dtx.app.moment import folded
from dtx.dt.processing import Folded
from dtx.dt.rollout import decision_contexts
from tests.app.panels.conftest import FLIP, KEY_LEFT


@pytest.mark.parametrize("name", ["memory1", "memory2", "clone", "leftpad", "plain", "planted"])
def test_parts_are_those_of_the_batch_function_at_the_decision(name, ask, explorer):
    (cell,) = ask(f"#1&m={name}&w=ball/right&a=ffff&r=.5&e={FLIP}", "attribution")
    data = cell["data"]
    model = Loader().model(explorer.catalogue.choose(name))
    decision = explorer.catalogue.places()["memory"].environment.decision
    windows = decision_contexts(model, decision, [0.5])[0]
    layouts = list(decision.layouts)
    for side, layout in (("original", "ball/right"), ("edited", "key/left")):
        expected = attribute(model, windows[layouts.index(layout)], (0, 1))
        own = data[side]
        assert data["components"] == expected.names and data["kinds"] == expected.kinds
        close = lambda found, wanted: np.testing.assert_allclose(found, wanted, atol=1e-5)  # noqa: E731
        close(own["value"], expected.component_kbp[0, 0])
        close(own["value"].sum(), own["ld"])
        close(own["source"], expected.source_blhm[0].flatten(0, 1))
        close(own["cells"].sum(), expected.channel_bc.sum())
        size = expected.neuron_blf[0].abs().max()
        close(np.abs(own["neurons"]["value"]).max(), size)
        layer, neuron = (int(own["neurons"][axis][0]) for axis in ("layer", "neuron"))
        close(abs(float(expected.neuron_blf[0, layer, neuron])), size)
    assert data["check"]["holds"] and data["check"]["error"] < 1e-10


def test_the_deciding_mlp_of_the_planted_model_writes_the_decision(ask):
    (cell,) = ask(f"#1&m=planted&{KEY_LEFT}&e={FLIP}", "attribution")
    data = cell["data"]
    for side in ("original", "edited"):
        first = int(np.abs(data[side]["value"]).argmax())
        assert data["components"][first] == "L1 MLP"
        assert data[side]["value"][first] == pytest.approx(data[side]["ld"], rel=0.05)
    assert data["original"]["ld"] > 1 > -1 > data["edited"]["ld"]


def test_folded_weights_are_made_once_a_loaded_model(explorer):
    model = Loader().model(explorer.catalogue.choose("memory1"))
    kept = folded(model)
    assert kept is folded(model)
    assert torch.equal(kept.folded.W_U, Folded.of(model).folded.W_U)
    assert folded(Loader().model(explorer.catalogue.choose("memory1"))) is not kept
