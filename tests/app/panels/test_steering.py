import numpy as np
import pytest
import torch

from dtx.analysis.steering.edits import ActivationEdit, Steered, activations, mask, residual
from dtx.analysis.steering.spec import Tokens
from tests.app.panels.conftest import FLIP, KEY_LEFT


@pytest.mark.parametrize("name", ["memory1", "memory2", "clone", "leftpad", "planted"])
@pytest.mark.parametrize(("tokens", "layer"), [("last_state", -1), ("states", 0), ("all", 1)])
def test_sizes_are_those_of_the_steered_model(name, tokens, layer, ask, moment):
    text = f"#1&m={name}&{KEY_LEFT}&e={FLIP}"
    (cell,) = ask(text, "steering", tokens=tokens, layer=layer, alpha=0.6)
    data, here, at = cell["data"], moment(text), Tokens(tokens)
    hook = residual(layer % here.cfg.n_layers)
    with torch.no_grad():
        means = [
            activations(here.model, side.context, hook)[mask(side.context, at)].mean(0)
            for side in (here.original, here.edited)
        ]
        edit = ActivationEdit("", hook, at, vector=means[0] - means[1])
        for side in (here.original, here.edited):
            logits = torch.cat(
                [
                    Steered(here.model, edit.at(alpha)).last_logits(side.context)
                    for alpha in data["alphas"].tolist()
                ]
            )
            own = data[side.name]
            np.testing.assert_allclose(own["ld"], here.ld(logits), atol=1e-4)
            chosen = int(np.abs(data["alphas"] - 0.6).argmin())
            np.testing.assert_allclose(own["probabilities"], logits[chosen].softmax(-1), atol=1e-5)
            np.testing.assert_allclose(own["unsteered"], side.logits.softmax(-1), atol=1e-5)
    assert data["check"]["holds"] and len(data["alphas"]) == 6


@pytest.mark.parametrize("name", ["planted", "memory1"])
def test_the_whole_difference_of_the_only_edited_token_is_the_other_run(name, ask):
    """The flip changes S1 alone: added to its embedding, the edited run is the original, and back."""
    text = f"#1&m={name}&{KEY_LEFT}&e={FLIP}"
    (cell,) = ask(text, "steering", tokens="first_state", layer=0, alpha=1.0)
    data = cell["data"]
    size = {alpha: int(np.abs(data["alphas"] - alpha).argmin()) for alpha in (-1, 0, 1)}
    original, edited = (data[side]["ld"] for side in ("original", "edited"))
    assert edited[size[1]] == pytest.approx(original[size[0]], abs=1e-4)
    assert original[size[-1]] == pytest.approx(edited[size[0]], abs=1e-4)
    assert data["norm"] > 0


def test_reward_to_go_clamped_is_the_run_that_is_asked_for_it(ask):
    text = "#1&m=planted&w=key/left&a=ffff&r="
    (cell,) = ask(f"{text}.9", "steering", method="reward_to_go", clamp=0.0, alpha=1.0)
    (other,) = ask(f"{text}0", "policy")
    np.testing.assert_allclose(
        cell["data"]["original"]["probabilities"],
        other["data"]["original"]["probabilities"],
        atol=1e-5,
    )
    assert cell["data"]["edited"] is None


def test_what_there_is_not_is_one_line(ask):
    text = f"#1&m=memory1~clone&{KEY_LEFT}"
    cells = ask(text, "steering")
    assert all("needs an edit" in cell["error"] for cell in cells)
    assert "reads no reward-to-go" in ask(text, "steering", method="reward_to_go")[1]["error"]
    text = f"{text}&e={FLIP}"
    assert "layers are 0..1" in ask(text, "steering", layer=7)[0]["error"]
    assert "has no" in ask(text, "steering", tokens="reward_to_go")[1]["error"]
