"""Published transformers of every supported form, and what is refused."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch

from dtx.dt import imported
from dtx.dt.context import Context
from dtx.dt.imported import Imported
from dtx.dt.load import check_fits, untrained_like
from dtx.dt.processing import processed
from dtx.env.encoding import flatten, one_hot
from dtx.errors import UserError
from dtx.exchange.published.checkpoint import digest_of, read
from dtx.exchange.published.convert_model import convert, is_transformer
from tests.published import ENVIRONMENT, RAW, put_into_store, transformer, transformer_logits, write

VARIANTS = {
    "as the study's": {"layers": 2, "gated": True},
    "three layers": {"layers": 3, "activation": "gelu"},
    "no normalisation": {"norm": False},
    "normalisation without weights": {"norm": "LNPre", "gated": True},
    "linear time": {"time": "linear"},
    "indices": {"state": "indices", "norm": None},
    "convolutions": {"state": "conv"},
    "clone": {"clone": True},
    "clone, linear time": {"clone": True, "time": "linear", "state": "conv", "layers": 2},
    "dynamic obstacles": {"state": "indices", "norm": False, "n_ctx": 2, "n_actions": 3},
}


def random_windows(steps: int, actions: int, windows: int = 6, padding: int = 1):
    """Observations (b, t, 7, 7, 3), actions, returns, timesteps, and how many steps are padding."""
    rng = np.random.default_rng(0)
    limits = np.array([11, 6, 3])
    observations = rng.integers(0, limits, (windows, steps, 7, 7, 3)).astype(np.uint8)
    padding = min(padding, steps - 1)
    taken = rng.integers(0, actions, (windows, steps - 1))
    taken[:, :padding] = actions
    timesteps = np.maximum(np.arange(steps) - padding, 0)[None].repeat(windows, 0)
    returns = rng.random((windows, 1)).astype(np.float32).repeat(steps, 1)
    return observations, taken, returns, timesteps, padding


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_it_computes_what_was_published(options, tmp_path):
    tensors, config = transformer(**options)
    raw = options.get("state", "one-hot") != "one-hot"
    file = write(tmp_path / "named.anyhow", tensors, config, RAW if raw else ENVIRONMENT)
    assert is_transformer(read(file))
    model = put_into_store(Imported(file=file, digest=digest_of(file)), tmp_path / "store")
    cfg = model.cfg
    seen, actions, returns, timesteps, padding = random_windows(cfg.n_steps, cfg.n_actions)
    encoded = flatten(one_hot(seen)).astype(np.float32)
    encoded[:, :padding] = 0  # an unseen observation is all zeros, in the published code, too
    shown = seen if raw else one_hot(seen)
    shown[:, :padding] = 0
    context = Context.of(
        layout=cfg.layout,
        one_hot=torch.from_numpy(encoded),
        action=torch.from_numpy(np.pad(actions, ((0, 0), (0, 1)), constant_values=cfg.n_actions)),
        reward_to_go=torch.from_numpy(returns),
        timestep=torch.from_numpy(timesteps),
    )
    expected = transformer_logits(
        tensors, config, *map(torch.from_numpy, (shown, actions, returns, timesteps))
    )
    with torch.no_grad():
        found, _ = model.run_with_cache(context)
        assert torch.allclose(found, expected, atol=1e-5), (found - expected).abs().max()
        assert torch.allclose(model(context), expected, atol=1e-5)
        folded = processed(model)(context)
    assert torch.allclose(folded, expected, atol=1e-5)
    assert expected.abs().max() > 0.1 and expected.std(0).max() > 0.01
    fresh = untrained_like(model, 3)
    again = untrained_like(model, 3)
    assert all(
        torch.equal(a, b) for a, b in zip(fresh.parameters(), again.parameters(), strict=True)
    )


def test_a_convolutional_embedding_has_no_matrix_and_says_so(tmp_path):
    model = convert(read(write(tmp_path / "a.pt", *transformer(state="conv"), RAW))).model
    with pytest.raises(UserError, match="no matrix W_S"):
        _ = model.embed.W_S


def test_safetensors_with_the_configs_as_metadata(tmp_path):
    from safetensors.torch import save_file

    tensors, config = transformer()
    texts = {"model_config": json.dumps(config), "environment_config": json.dumps(ENVIRONMENT)}
    save_file(tensors, tmp_path / "a.bin", {"format": "pt", **texts})
    converted = convert(read(tmp_path / "a.bin"))
    torch_file = convert(read(write(tmp_path / "a.pt", tensors, config)))
    ours, theirs = (c.model.state_dict() for c in (converted, torch_file))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert "state_predictor.weight" in converted.ignored


W_Q = "transformer.blocks.0.attn.W_Q"
REFUSED = {
    "extra tensor": (
        {"memory.weight": torch.ones(2)},
        {},
        {},
        "tensor memory.weight [2] has no place",
    ),
    "a shape": (
        {"transformer.blocks.0.mlp.W_out": torch.ones(3, 12)},
        {},
        {},
        "W_out has shape [3, 12], but [10, 12]",
    ),
    "missing": (
        {"transformer.blocks.0.attn.b_K": None},
        {},
        {},
        "tensor transformer.blocks.0.attn.b_K is missing",
    ),
    "no block": ({W_Q: None}, {}, {}, f"tensor {W_Q} is missing"),
    "not finite": (
        {"action_predictor.bias": torch.full((7,), torch.nan)},
        {},
        {},
        "action_predictor.bias does not",
    ),
    "not causal": (
        {"transformer.blocks.0.attn.mask": torch.ones(8, 8)},
        {},
        {},
        "attn.mask is not the causal",
    ),
    "whole view": ({"state_embedding.weight": torch.ones(12, 192)}, {}, {}, "reads 192 numbers"),
    "activation": ({}, {"activation_fn": "solu_ln"}, {}, "model_config.activation_fn = 'solu_ln'"),
    "normalisation": ({}, {"layer_norm": "RMS"}, {}, "model_config.layer_norm = 'RMS'"),
    "contradiction": ({}, {"n_heads": 4}, {}, "model_config.n_heads = '4'"),
    "gated": ({}, {"gated_mlp": True}, {}, "model_config.gated_mlp = 'True'"),
    "vision": ({}, {"state_embedding_type": "ViT"}, {}, "state_embedding_type = 'vit'"),
    "time": (
        {},
        {"time_embedding_type": "linear"},
        {},
        "model_config.time_embedding_type = 'linear'",
    ),
    "type": ({}, {"n_layers": "1"}, {}, "model_config.n_layers = '1'"),
    "unknown field": (
        {},
        {"mixture_of_experts": 3},
        {},
        "model_config.mixture_of_experts is not a field",
    ),
    "pixels": ({}, {}, {"img_obs": True}, "environment_config.img_obs = 'True'"),
    "view": ({}, {}, {"view_size": 5}, "environment_config.view_size = '5'"),
    "indices": ({"state_embedding.weight": torch.ones(12, 147)}, {}, {}, "one_hot_obs = True, but"),
    "window": (
        {"transformer.pos_embed.W_pos": torch.ones(9, 12)},
        {"n_ctx": 9},
        {},
        "model_config.n_ctx = '9'",
    ),
}


@pytest.mark.parametrize(
    ("tensors", "config", "environment", "words"), REFUSED.values(), ids=REFUSED
)
def test_what_cannot_be_mapped_is_refused_by_name(tensors, config, environment, words, tmp_path):
    whole, model = transformer()
    changed = {k: v for k, v in {**whole, **tensors}.items() if v is not None}
    file = write(tmp_path / "a.pt", changed, {**model, **config}, {**ENVIRONMENT, **environment})
    with pytest.raises(UserError) as error:
        convert(read(file))
    assert words in str(error.value) and str(error.value).startswith("a.pt: ")
    assert "\n" not in str(error.value)


class Hostile:
    def __reduce__(self):
        return (eval, ("__import__('pathlib').Path('was_here').touch()",))


def test_what_is_more_than_tensors_is_not_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tensors, config = transformer()
    texts = {"model_config": json.dumps(config), "environment_config": json.dumps(ENVIRONMENT)}
    for content in ({"model_state_dict": {**tensors, "x": Hostile()}, **texts}, Hostile()):
        torch.save(content, "a.pt")
        with pytest.raises(UserError, match=r"cannot be read as tensors and nothing else"):
            read(tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Hostile()))
    (tmp_path / "c.pt").write_bytes(b"no checkpoint at all")
    (tmp_path / "d.pt").write_bytes((5).to_bytes(8, "little") + b"{oops")
    (tmp_path / "e.pt").write_bytes(b"")
    for name in "bcde":
        with pytest.raises(UserError, match=rf"^{name}.pt: "):
            read(tmp_path / f"{name}.pt")
    assert not (tmp_path / "was_here").exists()


def test_configs_are_data(tmp_path):
    tensors, config = transformer()
    for text, words in (
        ("[" * 100_000, "model_config is not a config in JSON"),
        ("[1]", "model_config is not a config in JSON"),
        ("{}{", "model_config is not a config in JSON"),
    ):
        texts = {"model_config": text, "environment_config": json.dumps(ENVIRONMENT)}
        torch.save({"model_state_dict": tensors, **texts}, tmp_path / "a.pt")
        with pytest.raises(UserError, match=words):
            read(tmp_path / "a.pt")
    torch.save({"model_state_dict": tensors, "optimiser": {}}, tmp_path / "a.pt")
    with pytest.raises(UserError, match="holds 'optimiser'"):
        read(tmp_path / "a.pt")
    torch.save({"model_state_dict": tensors, "model_config": json.dumps(config)}, tmp_path / "a.pt")
    with pytest.raises(UserError, match="environment_config is missing"):
        convert(read(tmp_path / "a.pt"))


def test_the_file_is_needed_once_and_is_no_part_of_the_identity(tmp_path):
    file = write(tmp_path / "a.pt", *transformer())
    stage = Imported(file=file, digest=digest_of(file))
    elsewhere = Imported(file=None, digest=stage.digest)
    assert stage.key == elsewhere.key != imported.Imported(file=file, digest="b" * 64).key
    put_into_store(stage, tmp_path / "store")
    file.unlink()
    for gone in (stage, elsewhere):
        with pytest.raises(UserError, match=r"dtx import FILE"):
            gone.run(tmp_path)
    write(file, *transformer(layers=2))
    with pytest.raises(UserError, match=r"is not the file that imported-"):
        stage.run(tmp_path)


def test_a_model_does_not_play_what_it_cannot(tmp_path):
    from dtx.config.compose import build_group

    model = convert(read(write(tmp_path / "a.pt", *transformer(n_actions=3, n_ctx=2)))).model
    obstacles = build_group("env/dynamic_obstacles", ["env.max_steps=20"])
    check_fits(model, obstacles, "imported-1")
    with pytest.raises(UserError, match=r"imported-1 has 3 actions, but .* has 7"):
        check_fits(model, build_group("env/memory"), "imported-1")
    long = build_group("env/dynamic_obstacles", ["env.max_steps=62"])
    with pytest.raises(UserError, match=r"imported-1 knows 61 timesteps, but .* may last 62"):
        check_fits(model, long, "imported-1")
    check_fits(model, long, "imported-1", plays=False)  # windows may end before the episode
