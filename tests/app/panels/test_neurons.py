import numpy as np
import pytest

from dtx.analysis.attribution.compute import attribute
from dtx.analysis.congruence.compute import congruence
from dtx.app.address import parse
from dtx.app.models import Loader
from dtx.dt.processing import processed
from dtx.dt.rollout import decision_contexts
from tests.app.panels.awkward import NAMES
from tests.app.panels.conftest import FLIP, KEY_LEFT


@pytest.mark.parametrize("name", NAMES)
def test_effects_are_those_of_the_batch_functions_at_the_decision(name, awkward, ask_awkward):
    (cell,) = ask_awkward(f"#1&m={name}&w=ball/right&a=ffff&r=.5&e={FLIP}", "neurons")
    data = cell["data"]
    model = Loader().model(awkward.catalogue.choose(name))
    decision = awkward.catalogue.places()["memory"].environment.decision
    windows = decision_contexts(model, decision, [0.5])[0]
    layouts = list(decision.layouts)
    for side, layout in (("original", "ball/right"), ("edited", "key/left")):
        window = windows[layouts.index(layout)]
        expected = attribute(model, window, (0, 1)).neuron_blf[0]
        for i, neuron in enumerate(data["strongest"]):
            layer, _, unit = neuron[1:].partition("N")
            assert data[side]["effects"][i] == pytest.approx(
                float(expected[int(layer), int(unit)]), abs=1e-5
            )
        layer, unit = (int(each) for each in data["neuron"][1:].split("N"))
        _, cache = model.run_with_cache(window, names_filter=f"blocks.{layer}.mlp.hook_post")
        (activation,) = cache.values()
        np.testing.assert_allclose(data[side]["activation"], activation[0, :, unit], atol=1e-5)
    weight = congruence(processed(model))[layer, unit]
    np.testing.assert_allclose(list(data["writes"].values()), weight, atol=1e-5)
    assert data["neuron"] == data["strongest"][0] and data["check"]["error"] < 1e-9
    assert data["stored"] is None


def test_the_view_is_drawn_by_row_and_column(awkward, ask_awkward):
    address = f"#1&m=plain&{KEY_LEFT}"
    (cell,) = ask_awkward(address, "neurons", neuron="L0N3")
    data = cell["data"]
    asked = awkward.understood(parse(address)[0].json())
    view = asked.played.original.views[-1]
    model = Loader().model(awkward.catalogue.choose("plain"))
    weight = model.embed.W_S @ model.W_in[0][:, 3]
    for column, row in np.ndindex(7, 7):
        channels = view[column, row] + np.array([0, 11, 17])
        expected = float(sum(weight[int(c) * 49 + column * 7 + row] for c in channels))
        assert data["original"]["cells"][row, column] == pytest.approx(expected, abs=1e-4)
    state = data["parts"].index("state")
    assert data["original"]["cells"].sum() == pytest.approx(
        float(data["original"]["drivers"][state]), abs=1e-4
    )


def test_what_cannot_be_shown_is_one_line(ask_awkward):
    for name, word in (("L1H3", "is no neuron"), ("x", "is no neuron"), ("L1N99", "no L1N99")):
        (cell,) = ask_awkward("#1&m=memory1", "neurons", neuron=name)
        assert word in cell["error"]
    (cell,) = ask_awkward("#1&m=conv", "neurons")
    assert "convolutional" in cell["error"]
