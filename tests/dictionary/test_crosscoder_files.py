import json

import pytest
import torch

from dtx.dictionary.crosscoder_files import CONFIG, WEIGHTS, Crosscoder, Source, read, write
from dtx.errors import UserError

SOURCES = (
    Source("blocks.0.hook_resid_post", "windows-a", 2.0),
    Source("blocks.1.mlp.hook_post", "windows-a", 2.0),
)


def crosscoder(widths=(6, 9), f=20) -> Crosscoder:
    generator = torch.Generator().manual_seed(0)
    weights = {"b_enc": torch.zeros(f), "threshold": torch.full((f,), 0.2)}
    for s, d in enumerate(widths):
        weights[f"W_enc.{s}"] = torch.randn(d, f, generator=generator)
        weights[f"W_dec.{s}"] = torch.randn(f, d, generator=generator)
        weights[f"b_dec.{s}"] = torch.randn(d, generator=generator)
    return Crosscoder(SOURCES[: len(widths)], weights)


def test_files_keep_the_crosscoder(tmp_path):
    wanted, x = crosscoder(), [torch.randn(5, 6), torch.randn(5, 9)]
    write(wanted, tmp_path)
    found = read(tmp_path)
    assert found.sources == wanted.sources and found.size == 20
    assert torch.equal(found.encode(x), wanted.encode(x))
    for one, other in zip(found.reconstruct(x), wanted.reconstruct(x), strict=True):
        assert torch.equal(one, other)
    assert [y.shape for y in found.reconstruct(x)] == [(5, 6), (5, 9)]


def test_it_is_an_autoencoder_of_the_activations_beside_each_other():
    found, x = crosscoder(), [torch.randn(5, 6), torch.randn(5, 9)]
    w = found.weights
    encoder = torch.cat([w["W_enc.0"], w["W_enc.1"]])
    decoder = torch.cat([w["W_dec.0"], w["W_dec.1"]], 1)
    bias = torch.cat([w["b_dec.0"], w["b_dec.1"]])
    before = (torch.cat(x, 1) - bias) @ encoder
    torch.testing.assert_close(found.encode(x), before * (before > 0.2))
    together = torch.cat(found.reconstruct(x), 1)
    torch.testing.assert_close(together, found.encode(x) @ decoder + bias)
    with pytest.raises(ValueError, match="1 activations of 2 sources"):
        found.encode(x[:1])


def test_shares_tell_features_of_one_source_from_those_of_both():
    found = crosscoder((6, 6))
    found.weights["W_dec.0"][0] = 0
    found.weights["W_dec.1"][1] = found.weights["W_dec.0"][1]
    found.weights["W_dec.1"][2] = -3 * found.weights["W_dec.0"][2]
    share = found.share()
    assert share[:, 0].tolist() == [0, 1]
    torch.testing.assert_close(share[:, 1], torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(share[:, 2], torch.tensor([0.25, 0.75]))
    torch.testing.assert_close(found.similarity()[1:3], torch.tensor([1.0, -1.0]))
    with pytest.raises(UserError, match="have 6 and 9 dimensions"):
        crosscoder().similarity()


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match="not a readable crosscoder"):
        read(tmp_path)
    write(crosscoder(), tmp_path)
    known = json.loads((tmp_path / CONFIG).read_text())
    for changes, message in (
        ({"architecture": "topk"}, "architecture 'topk'"),
        ({"sources": []}, "of 0 sources"),
        ({"sources": known["sources"][:1]}, "asks for"),
        ({"d_sae": 7}, "asks for"),
        ({"sources": 3}, "not a readable crosscoder"),
    ):
        (tmp_path / CONFIG).write_text(json.dumps({**known, **changes}))
        with pytest.raises(UserError, match=message):
            read(tmp_path)
    (tmp_path / CONFIG).write_text(json.dumps(known))
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:-40])
    with pytest.raises(UserError, match="not a readable crosscoder"):
        read(tmp_path)
