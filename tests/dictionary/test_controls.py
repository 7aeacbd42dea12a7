import numpy as np
import pytest
import torch

from dtx.dictionary import controls
from dtx.dictionary.sae_files import read, write
from dtx.errors import UserError
from tests.dt.test_model import build, contexts

HOOK = "blocks.0.hook_resid_post"
RNG = np.random.default_rng(0)
X = (RNG.normal(size=(300, 16)) * np.linspace(3, 0.1, 16) + RNG.normal(size=16)).astype(np.float32)
COUNT = RNG.integers(1, 9, len(X))


def explained(sae, x=X, count=COUNT):
    back = sae.reconstruct(torch.from_numpy(x)).double().numpy()
    centre = np.average(x, axis=0, weights=count)
    return 1 - (count @ (back - x) ** 2).sum() / (count @ (x - centre) ** 2).sum()


def test_the_identity_is_exact_and_the_mean_explains_nothing():
    x = torch.from_numpy(X)
    assert torch.equal(controls.identity(16).reconstruct(x), x)
    nothing = controls.mean(X, COUNT)
    assert nothing.encode(x).shape == (300, 0)
    assert abs(explained(nothing)) < 1e-6
    torch.testing.assert_close(
        nothing.reconstruct(x)[0].double(), torch.from_numpy(np.average(X, axis=0, weights=COUNT))
        , rtol=0, atol=1e-6,
    )  # fmt: skip


def test_principal_components_are_those_of_the_rows_repeated_as_often_as_they_count():
    """By a singular value decomposition of the repeated rows, and by what no other basis explains."""
    long = np.repeat(X, COUNT, axis=0).astype(np.float64)
    centred = long - long.mean(0)
    values = np.linalg.svd(centred, compute_uv=False) ** 2
    for k in (0, 1, 5, 16):
        sae = controls.pca(X, COUNT, k)
        assert explained(sae) == pytest.approx(values[:k].sum() / values.sum(), abs=1e-6)
        on = (sae.encode(torch.from_numpy(X)) > 0).sum(1)
        assert (on == k).all()
        fewer = controls.fewer_components(controls.pca(X, COUNT, 16), k)
        assert torch.equal(fewer.weights["W_enc"], sae.weights["W_enc"])
    assert explained(controls.pca(X, None, 5)) < explained(controls.pca(X, COUNT, 5))


def test_the_largest_dimensions_are_kept_and_the_others_get_their_mean():
    centre = torch.linspace(-1, 1, 16)
    x = torch.from_numpy(X)
    back = controls.largest_dimensions(3, 16, centre).reconstruct(x)
    far = (x - centre).abs()
    kept = far >= far.topk(3, dim=1).values[:, -1:]
    torch.testing.assert_close(back, torch.where(kept, x, centre.expand_as(x)))
    everything = controls.largest_dimensions(16, 16).reconstruct(x)
    torch.testing.assert_close(everything, x)


def test_random_directions_are_a_function_of_the_seed():
    x = torch.from_numpy(X)
    one, same, other = (controls.random(16, 40, 4, seed) for seed in (1, 1, 2))
    assert torch.equal(one.reconstruct(x), same.reconstruct(x))
    assert not torch.equal(one.reconstruct(x), other.reconstruct(x))
    assert ((one.encode(x) > 0).sum(1) <= 4).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: controls.identity(16, hook=HOOK),
        lambda: controls.mean(X, hook=HOOK),
        lambda: controls.pca(X, None, 4, hook=HOOK),
        lambda: controls.largest_dimensions(4, 16, hook=HOOK),
        lambda: controls.random(16, 24, 4, 0, hook=HOOK),
    ],
)
def test_each_goes_into_a_model_and_into_saelens_files(make, tmp_path):
    sae = make()
    write(sae, tmp_path)
    assert torch.equal(
        read(tmp_path).reconstruct(torch.from_numpy(X)), sae.reconstruct(torch.from_numpy(X))
    )
    stage, network = build()
    context = contexts(stage)
    with torch.no_grad():
        before = network(context)
        with sae.spliced(network):
            torch.testing.assert_close(network(context), before, rtol=0, atol=1e-5)
        with sae.spliced(network, error_term=False):
            without = network(context)
    same = bool(torch.equal(without, before))
    assert same is (sae.weights["W_dec"].shape[0] == 32 and sae.k is None)  # the identity alone


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: controls.pca(X, COUNT, 17), "17 principal components: there are 16"),
        (lambda: controls.largest_dimensions(0, 16), "0 bare dimensions: .*ask for 1 to 16"),
        (lambda: controls.random(16, 8, 9, 0), "9 random directions: there are 8"),
        (lambda: controls.mean(X[:0]), "no activations"),
        (lambda: controls.mean(X, np.zeros(len(X))), "no activations"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(make, words):
    with pytest.raises(UserError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)
