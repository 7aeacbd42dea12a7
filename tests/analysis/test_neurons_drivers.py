import pytest
import torch

from dtx.analysis.neurons.drivers import BIASES, drivers
from dtx.dt.processing import processed
from tests.dt.test_model import VARIANTS, build, contexts
from tests.dt.test_processing import scramble


@pytest.mark.parametrize("variant", VARIANTS)
def test_parts_add_up_to_the_input_of_every_variant_of_the_model(variant):
    spec, model = build(*VARIANTS[variant])
    scramble(model)
    twin, context = processed(model, dtype=torch.float64), contexts(spec).to(torch.float64)
    model.double()
    for layer in range(model.cfg.n_layers):
        found = drivers(twin, context, layer, 3)
        assert found.error < 1e-10 and found.names[-1] == BIASES
        hook = f"blocks.{layer}.mlp.hook_pre"
        with torch.no_grad():
            _, cache = model.run_with_cache(context, names_filter=hook)
        # Of the model as it is: folding moves only what is in a part, never the input.
        torch.testing.assert_close(found.input_b, cache[hook][:, -1, 3], rtol=0, atol=1e-9)


def test_a_part_is_what_the_input_loses_without_it():
    spec, model = build()
    scramble(model)
    twin, context = processed(model, dtype=torch.float64), contexts(spec).to(torch.float64)
    found = drivers(twin, context, 0, 5)
    without = drivers(_silent(twin, 1), context, 0, 5)
    at = found.names.index("L0H1")
    # The scale of LayerNorm changes with what is left out: by how much, the part of time (the second) tells.
    scale = found.value_bp[:, 1] / without.value_bp[:, 1]
    kept = without.value_bp * scale[:, None]
    assert kept[:, at].abs().max() < 1e-12 < found.value_bp[:, at].abs().max()
    state_and_heads = [i for i, name in enumerate(found.names) if name not in ("L0H1", BIASES)]
    torch.testing.assert_close(
        kept[:, state_and_heads], found.value_bp[:, state_and_heads], rtol=0, atol=1e-9
    )


def _silent(model, head):
    """The model with a head of the first layer that writes nothing."""
    model.blocks[0].attn.W_O[head] = 0.0
    return model
