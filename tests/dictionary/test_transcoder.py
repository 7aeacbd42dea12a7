import dataclasses

import numpy as np
import pytest
import torch

from dtx.activations.stored import Part
from dtx.config.compose import build_group
from dtx.dictionary.spec import How
from dtx.dictionary.transcoder import Transcoder
from dtx.errors import UserError
from dtx.store.store import Store, used
from tests.activations.toy import fresh
from tests.activations.toy import stage as storing
from tests.dictionary.training import make

READ, GIVEN = "blocks.1.ln2.hook_normalized", "blocks.1.hook_mlp_out"
SMALL = ["width=[24]", "k=[4]", "steps=120", "learning_rate=1e-2", "batch_size=64", "warm_up=5"]


def stage(*overrides, **changes) -> Transcoder:
    built = build_group("dictionary/transcoder", [f"dictionary.{w}" for w in (*SMALL, *overrides)])
    assert isinstance(built, Transcoder)
    first = storing(hooks=(READ, GIVEN), other_windows=None)
    return dataclasses.replace(built, **{"activations": first, **changes})


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with used(Store(tmp_path_factory.mktemp("transcoders") / "store")) as store:
        yield store


def rows_of(what, part=Part.HELD_OUT):
    stored = what.activations.load()
    rows = stored.rows("prefix", part)
    x, y = (torch.from_numpy(np.asarray(stored.array(h)[rows], np.float32)) for h in (READ, GIVEN))
    return x, y, torch.from_numpy(stored.columns["count"][rows].astype(np.float32))


@pytest.mark.parametrize("normalise", ["true", "false"])
def test_files_give_the_models_own_activation_and_the_table_says_how_well(shared, normalise):
    what = stage(f"normalise={normalise}")
    make(shared, what)
    found = what.load()
    (line,) = found.frame.itertuples()
    sae = found[line.name]
    assert (sae.hook_name, sae.hook_out, line.hook, line.hook_out) == (READ, GIVEN, READ, GIVEN)
    assert sae.architecture == "jumprelu_transcoder"
    x, y, count = rows_of(what)
    mean = (count @ y) / count.sum()
    error, deviation = (sae.reconstruct(x) - y).square().sum(1), (y - mean).square().sum(1)
    wanted = 1 - (count @ error / (count @ deviation)).item()
    assert line.explained_variance == pytest.approx(wanted, abs=1e-4) and wanted > 0.3
    on = (sae.encode(x) > 0).float().sum(1)
    assert line.l0 == pytest.approx((count @ on / count.sum()).item(), rel=1e-4)
    assert 2 < line.l0 < 7  # the threshold stands for k a token


def test_a_file_computes_what_was_trained(shared, monkeypatch):
    """Features and output in the model's own scale are those of training, scaled back: exact identity."""
    from dtx.dictionary import tasks

    kept = {}
    real = tasks.transcoder

    def keep(network, read, given, hook_out):
        kept.update(network=network, read=read, given=given)
        return real(network, read, given, hook_out)

    monkeypatch.setattr(tasks, "transcoder", keep)
    what = stage("steps=30")
    make(shared, what)
    x, _, _ = rows_of(what)
    network, given = kept["network"], kept["given"]
    with torch.no_grad():
        before = kept["read"](x) @ network.W_enc.T + network.b_enc
        features = before * (before > network.threshold.clamp_min(0))
        out = features @ network.W_dec + network.b_dec
    (name,) = what.load()
    sae = what.load()[name]
    torch.testing.assert_close(sae.encode(x), features / given.factor, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        sae.reconstruct(x), out / given.factor + given.mean, rtol=1e-4, atol=1e-5
    )


def test_it_explains_more_than_a_frozen_decoder_and_than_none(shared):
    what = stage("how=[trained,frozen_decoder]")
    none = stage("steps=0")
    make(shared, what, none)
    explained = what.load().frame.set_index("how")["explained_variance"]
    assert explained["trained"] > explained["frozen_decoder"] + 0.03
    assert explained["trained"] > none.load().frame["explained_variance"][0] + 0.1


def test_an_untrained_networks_transcoders_and_controls_are_stages(shared):
    what = stage("steps=4")
    twin = what.of_untrained(3)
    assert twin.activations.dt.like == what.activations.dt and twin.ends == what.ends
    assert set(what.controls().how) == set(How) - {How.trained}
    make(shared, twin)
    assert twin.load().frame["hook_out"].tolist() == [GIVEN]


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        (
            {"hooks_out": ("blocks.0.hook_mlp_out",)},
            "hooks_out",
            "blocks.0.hook_mlp_out is not stored",
        ),
        ({"hooks_out": (GIVEN, READ)}, "hooks_out", "2 for 1 hooks: name the one"),
        ({"hooks_out": (READ,)}, "hooks_out", "would give itself"),
        ({"k": (30,)}, "k", "30 features a token of 24"),
        ({"hooks": ("blocks.1.ln2.hook_normalised",)}, "hooks", "did you mean"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_runs(changes, field, message):
    problems = list(stage(**changes).check())
    assert any(place == field and message in what for place, what in problems)


def test_a_model_without_the_hook_is_told_of(shared):
    what = stage(
        "steps=2", activations=storing(hooks=(READ, GIVEN), dt=fresh("dt.model.layer_norm=false"))
    )
    with pytest.raises(UserError, match=r"ln2\.hook_normalized"):
        make(shared, what)
