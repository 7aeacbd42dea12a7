"""What is refused, and the numbers of the weights."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from dtx.app.file.contents import Wanted, contents
from dtx.app.file.weights import flat, not_covered
from dtx.app.places import place
from dtx.app.scene import Scene
from dtx.errors import UserError
from tests.app.file.subjects import explorer, model


def test_a_convolutional_encoder_is_not_covered():
    cfg = model("usual").cfg
    assert not_covered(cfg) is None
    conv = dataclasses.replace(cfg, state_encoder="conv")
    assert not_covered(conv) == "its state encoder is conv, and the page computes linear ones alone"


def test_matrices_are_laid_out_as_inputs_and_outputs():
    made = model("usual")
    data, shapes = flat(made, "float32")
    values, at, found = np.frombuffer(data, np.float32), 0, {}
    for name, shape in shapes.items():
        found[name] = values[at : at + np.prod(shape)].reshape(shape)
        at += int(np.prod(shape))
    assert at == len(values) == sum(p.numel() for p in made.parameters())
    x = torch.randn(5, 24)
    for name in "QKV":
        own = x.numpy() @ found[f"blocks.1.attn.W_{name}"] + found[f"blocks.1.attn.b_{name}"]
        theirs = made.blocks[1].attn.project(x, name).flatten(1)
        assert np.allclose(own, theirs.detach().numpy(), atol=1e-5)


def test_a_weight_beyond_float16_is_refused():
    made = model("usual")
    with torch.no_grad():
        made.unembed.W_U[0, 0] = 1e5
    flat(made, "float32")
    with pytest.raises(ValueError, match="too large for float16; use float32"):
        flat(made, "float16")


def test_float16_that_changes_too_much_is_refused(tmp_path):
    there = explorer(tmp_path, place("memory"), ("usual",))
    from dtx.dt.model import save

    made = model("usual")
    with torch.no_grad():
        made.unembed.W_U.mul_(100)
    save(made, tmp_path / "usual")
    wanted = Wanted(Scene(models=("usual",), world="key/left"), worlds=["key/left"])
    contents(there, wanted)
    with pytest.raises(UserError, match=r"float16 changes logits by .*; use float32"):
        contents(there, dataclasses.replace(wanted, precision="float16"))


def test_models_that_cannot_play_here_are_refused(tmp_path):
    there = explorer(tmp_path, place("memory"), ("usual", "clone"))
    entries = there.catalogue.others
    conv = dataclasses.replace(entries[0].shape, state_encoder="conv")
    entries[0] = dataclasses.replace(entries[0], shape=conv)
    with pytest.raises(UserError, match=r"usual: its state encoder is conv.*`dtx app` shows it"):
        contents(there, Wanted(Scene(models=("usual",))))
    with pytest.raises(UserError, match="no panel 'x'"):
        contents(there, Wanted(Scene(models=("clone",)), worlds=["key/left"], frozen=["x"]))
