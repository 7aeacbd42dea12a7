import numpy as np
import pytest

from dtx.analysis.congruence.compute import congruence
from dtx.analysis.congruence.products import neuron_inputs
from dtx.analysis.core.channels import channel_names, occurring
from dtx.app.models import Loader
from dtx.app.panels.congruence import PRODUCTS
from dtx.dt.names import neuron_name
from dtx.dt.processing import processed
from tests.app.panels.awkward import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_neurons_and_actions_are_those_of_the_batch_function(name, awkward, ask_awkward):
    (cell,) = ask_awkward(f"#1&m={name}", "congruence")
    data = cell["data"]
    model = Loader().model(awkward.catalogue.choose(name))
    expected = congruence(processed(model)).numpy()
    rows = {
        neuron_name(layer, f): expected[layer, f]
        for layer in range(expected.shape[0])
        for f in range(expected.shape[1])
    }
    np.testing.assert_allclose(data["value"], [rows[row] for row in data["rows"]], atol=1e-5)
    assert np.abs(data["value"]).max() == pytest.approx(np.abs(expected).max(), abs=1e-5)
    assert data["columns"] == ["left", "right", "forward", "pickup", "drop", "toggle", "done"]
    assert data["sizes"]["model"]["mean"] == pytest.approx(np.abs(expected).mean(), abs=1e-6)
    assert data["check"]["holds"] and data["check"]["error"] < 1e-9


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("name", NAMES)
def test_every_product_is_what_the_model_writes_here(name, product, ask_awkward):
    (cell,) = ask_awkward(f"#1&m={name}&w=key/left&a=ff", "congruence", product=product)
    assert cell["data"]["check"]["error"] < 1e-9
    assert set(cell["data"]["sizes"]) == {"model", "untrained"}


def test_the_view_is_drawn_by_row_and_column_where_training_shows_it(awkward, ask_awkward):
    model = processed(Loader().model(awkward.catalogue.choose("memory1")))
    known = awkward.catalogue.training_data(awkward.catalogue.choose("memory1").entry)
    seen = set(occurring(known.episodes).tolist())
    (cell,) = ask_awkward("#1&m=memory1", "congruence", product="view to actions", channel="ball")
    maps, channel = cell["data"]["maps"], channel_names().index("ball")
    for column, row in np.ndindex(7, 7):
        place = channel * 49 + column * 7 + row
        expected = (model.embed.W_S[place].double() @ model.W_U.double()).numpy()
        if place in seen:
            np.testing.assert_allclose(maps[:, row, column], expected, atol=1e-5)
        else:
            assert np.isnan(maps[:, row, column]).all()
    (cell,) = ask_awkward("#1&m=memory1", "congruence", product="view to neurons", layer=1, rank=2)
    data = cell["data"]
    neuron = int(data["neuron"].partition("N")[2])
    assert data["neuron"] == data["neurons"][1]
    into = model.embed.W_S.double() @ neuron_inputs(model)[1][:, neuron]
    at, strongest = data["blocks"].index("ball"), into[list(seen)].abs().max()
    for column, row in np.ndindex(7, 7):
        place = channel * 49 + column * 7 + row
        value = data["maps"][at, row, column]
        assert np.isnan(value) if place not in seen else abs(value - into[place]) < 1e-5
    assert np.nanmax(np.abs(data["maps"])) == pytest.approx(float(strongest), abs=1e-5)


def test_what_cannot_be_shown_is_one_line(ask_awkward):
    for parameters, word in (
        ({"product": "neurons to neurons", "layer": 1, "to": 1}, "later"),
        ({"product": "neurons to neurons", "to": 9}, "layers are 0..1"),
        ({"product": "view to neurons", "layer": 2}, "layers are 0..1"),
    ):
        (cell,) = ask_awkward("#1&m=memory1", "congruence", **parameters)
        assert word in cell["error"]
    (cell,) = ask_awkward("#1&m=conv", "congruence", product="view to actions")
    assert "convolutional" in cell["error"]
    (cell,) = ask_awkward("#1&m=conv", "congruence")
    assert cell["data"]["check"]["holds"]
