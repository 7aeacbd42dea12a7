import numpy as np
import pytest
import torch

from dtx.app.address import parse
from dtx.app.frames import decode, encode
from dtx.app.models import Loader
from dtx.app.scene import OpenPanel
from dtx.dictionary.sae_files import read, write
from dtx.errors import UserError
from tests.app.panels import awkward as models
from tests.app.panels.awkward import NAMES
from tests.app.panels.conftest import FLIP, KEY_LEFT
from tests.dictionary.test_sae_files import OUT, dictionary, transcoder

HOOKS = {"stream": "blocks.1.hook_resid_post", "heads": "blocks.0.attn.hook_z"}


@pytest.fixture(scope="module")
def explorer(tmp_path_factory):
    """One dictionary given by name, another beside the model's weights, and some that do not fit."""
    folder, given = tmp_path_factory.mktemp("features"), tmp_path_factory.mktemp("given")
    found = models.explorer(folder, (given,))
    write(dictionary("topk", HOOKS["stream"]), given / "stream")
    write(dictionary("standard", "blocks.7.hook_resid_post"), given / "elsewhere")
    write(dictionary("standard", HOOKS["stream"], d=12), given / "narrow")
    write(transcoder("jumprelu_skip_transcoder"), given / "transcoder")
    (given / "broken").mkdir()
    (given / "broken" / "cfg.json").write_text("{")
    (given / "broken" / "sae_weights.safetensors").write_bytes(b"")
    write(dictionary("standard", HOOKS["heads"]), folder / "memory1" / "sae")
    return found


@pytest.fixture
def ask(explorer):
    loader = Loader()

    def asked(text, **parameters):
        panel = OpenPanel("features", parameters)
        answer = explorer.ask(parse(text)[0].json(), [panel], loader)
        return decode(encode(answer))["panels"]["features"][0]

    return asked


@pytest.mark.parametrize("name", [name for name in NAMES if name != "planted"])
def test_features_and_logits_are_those_of_the_dictionary_spliced_in(name, ask, explorer):
    address = f"#1&m={name}&{KEY_LEFT}&e={FLIP}"
    data = ask(address, scale=3.0, tokens="all tokens")["data"]
    assert data["dictionary"] == "stream" and data["hook"] == HOOKS["stream"]
    sae = read(next(folder for folder in explorer.dictionaries) / "stream")
    asked = explorer.understood(parse(address)[0].json())
    (moment,) = explorer.moments(asked, Loader())
    feature = data["feature"]
    for side in ("original", "edited"):
        context = moment.sides[side].context
        with torch.no_grad():
            _, cache = moment.model.run_with_cache(context, names_filter=sae.hook_name)
            features = sae.encode(cache[sae.hook_name][0])
            shown = features[:, data["features"].tolist()].T
            np.testing.assert_allclose(data[side]["activation"], shown, atol=1e-5)
            for scale, logits in zip(data["scales"], data[side]["logits"], strict=True):

                def scaled(value, scale=float(scale)):
                    value[..., feature] *= scale

                with sae.spliced(moment.model, edit=scaled):
                    expected = moment.model.last_logits(context)[0]
                np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert feature == int(features_of(moment, sae)[-1].argmax())
    assert data["check"]["holds"] and 1.0 in data["scales"] and 3.0 in data["scales"]
    assert not moment.model.has_hooks


def features_of(moment, sae):
    """Features (n, f) of the original."""
    value = moment.original.activations({sae.hook_name})[sae.hook_name][0]
    return sae.encode(value)


def test_the_last_token_alone_is_scaled_unless_all_are_asked_for(ask):
    address = f"#1&m=memory1&{KEY_LEFT}"
    last = ask(address, scale=0.0, dictionary="memory1/sae", feature="3")["data"]
    every = ask(address, scale=0.0, dictionary="memory1/sae", feature=3, tokens="all tokens")[
        "data"
    ]
    assert last["hook"] == HOOKS["heads"] and last["feature"] == every["feature"] == 3
    assert last["check"]["holds"] and every["check"]["holds"]
    unchanged = last["scales"].tolist().index(1.0)
    np.testing.assert_allclose(
        last["original"]["logits"][unchanged], every["original"]["logits"][unchanged], atol=1e-5
    )


def test_a_transcoders_feature_is_scaled_in_what_it_gives(ask, explorer):
    address = f"#1&m=memory1&{KEY_LEFT}"
    data = ask(address, dictionary="transcoder", scale=2.0, tokens="all tokens")["data"]
    assert data["gives"] == OUT and data["hook"] == "blocks.0.ln2.hook_normalized"
    assert data["check"]["holds"] and data["original"]["explained"] < 1
    sae = read(next(folder for folder in explorer.dictionaries) / "transcoder")
    (moment,) = explorer.moments(explorer.understood(parse(address)[0].json()), Loader())
    feature, there = data["feature"], moment.original.activations({OUT, sae.hook_name})
    x = there[sae.hook_name][0]
    push = sae.encode(x)[:, feature, None] * sae.weights["W_dec"][feature]
    with torch.no_grad(), moment.model.hooks(fwd_hooks=[(OUT, lambda value, hook: value + push)]):
        expected = moment.model.last_logits(moment.original.context)[0]
    double = data["scales"].tolist().index(2.0)
    np.testing.assert_allclose(data["original"]["logits"][double], expected, atol=1e-4)
    unexplained = (there[OUT][0] - sae.reconstruct(x)).pow(2).sum()
    total = (there[OUT][0] - there[OUT][0].mean(0)).pow(2).sum()
    assert data["original"]["explained"] == pytest.approx(float(1 - unexplained / total), abs=1e-4)
    plain = ask(f"#1&m=plain&{KEY_LEFT}")["data"]["left_out"]
    assert any("blocks.0.ln2.hook_normalized, which no layer" in reason for reason in plain)


def test_dictionaries_of_other_models_are_left_out_with_the_reason(ask):
    data = ask(f"#1&m=memory1&{KEY_LEFT}")["data"]
    assert data["dictionaries"] == ["stream", "transcoder", "memory1/sae"]
    reasons = "\n".join(data["left_out"])
    assert "elsewhere: it reads blocks.7.hook_resid_post" in reasons
    assert "narrow: it reads 12 numbers" in reasons and "broken" in reasons
    assert ask(f"#1&m=clone&{KEY_LEFT}")["data"]["dictionaries"] == ["stream", "transcoder"]


def test_what_is_not_there_is_one_line(ask, ask_awkward):
    (cell,) = ask_awkward("#1&m=memory1", "features")
    assert "dtx app --sae DIR" in cell["error"]
    assert "did you mean 'stream'" in ask("#1&m=memory1", dictionary="straem")["error"]
    assert "none of 0..39" in ask("#1&m=memory1", feature="40")["error"]
    assert "none of 0..39" in ask("#1&m=memory1", feature="x")["error"]


def test_a_text_is_a_name_of_some_characters(explorer):
    panel = explorer.panels["features"]
    assert panel.parameters({"feature": 12}).feature == "12"
    for wrong in ("x" * 61, 1.5, True, None, ["a"]):
        with pytest.raises(UserError, match="a name of at most 60 characters"):
            panel.parameters({"feature": wrong})
