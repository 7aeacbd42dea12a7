import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from dtx.analysis.attribution import Attribution
from dtx.analysis.attribution import compute as computing
from dtx.analysis.attribution.compute import TOLERANCE, attribute
from dtx.analysis.attribution.plots import by_window
from dtx.analysis.attribution.spec import AttributionSpec
from dtx.analysis.core.inputs import Contrast, Inputs
from dtx.config.ranges import problems
from dtx.dt.processing import Folded, copy_of
from dtx.env.actions import Action
from dtx.report import read_metrics
from dtx.running.runner import run
from tests.dt.test_model import VARIANTS, build, contexts
from tests.dt.test_parity import context_of, network, windows  # noqa: F401  # fixtures
from tests.dt.test_processing import published, scramble


@pytest.fixture
def stage(env, rollouts, tiny) -> Attribution:
    return Attribution(
        windows=Inputs(env=env, dataset=rollouts, targets=(0.0, 0.9), count=8, seed=0),
        dt=tiny,
        checkpoint=None,
        contrast=Contrast(pos=Action.left, neg=Action.right),
        random_directions=20,
        shown=4,
        seed=0,
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_parts_add_to_the_logit_difference(variant):
    spec, model = build(*VARIANTS[variant])
    scramble(model)
    context = contexts(spec)
    found = attribute(model, context, (0, 2), random_directions=5)
    with torch.no_grad():
        logits = model.double()(context.to(torch.float64))[:, -1]
    assert torch.allclose(found.difference_b, logits[:, 0] - logits[:, 2], atol=1e-12)
    assert max(found.errors()) < 1e-10
    # Each head's sources and each MLP's neurons make up what the component adds.
    value = dict(zip(found.names, found.component_kbp[0].unbind(-1), strict=True))
    for layer in range(model.cfg.n_layers):
        for head in range(model.cfg.n_heads):
            assert torch.allclose(
                found.source_blhm[:, layer, head].sum(-1), value[f"L{layer}H{head}"]
            )
        assert torch.allclose(found.neuron_blf[:, layer].sum(-1), value[f"L{layer} MLP"])
    assert torch.allclose(found.channel_bc.sum(-1), value["state embedding"])


def test_kept_folded_weights_give_the_same_and_are_of_the_weights_as_they_were():
    spec, model = build()
    context = contexts(spec)
    folded = Folded.of(model)
    for _ in range(2):
        kept = attribute(folded, context, (0, 2), random_directions=3)
        assert torch.equal(kept.component_kbp, attribute(model, context, (0, 2), 3).component_kbp)
    with torch.no_grad():
        model.blocks[0].attn.W_O.mul_(2)
    assert torch.equal(attribute(folded, context, (0, 2)).difference_b, kept.difference_b)
    assert not torch.equal(attribute(model, context, (0, 2)).difference_b, kept.difference_b)


def test_a_part_is_what_the_difference_loses_without_it_at_held_scale():
    spec, model = build("dt.model.layer_norm=false")
    context, twin = contexts(spec).to(torch.float64), copy_of(model, torch.float64)
    found = attribute(model, context, (0, 1))
    last = twin.cfg.n_layers - 1

    def remove(z_bnhe, hook):
        z_bnhe[:, -1, 1] = 0
        return z_bnhe

    def rest(_, hook):  # what the last MLP adds stays as it was
        return kept

    _, cache = twin.run_with_cache(context)
    kept = cache[f"blocks.{last}.hook_mlp_out"]
    with torch.no_grad():
        without = twin.run_with_hooks(
            context,
            fwd_hooks=[
                (f"blocks.{last}.attn.hook_z", remove),
                (f"blocks.{last}.hook_mlp_out", rest),
            ],
        )[:, -1]
    lost = found.difference_b - (without[:, 0] - without[:, 1])
    head = found.component_kbp[0][:, found.names.index(f"L{last}H1")]
    # Values' biases count for the output's bias, so the head with its bias is what went away.
    bias_d = twin.b_V[last, 1] @ twin.W_O[last, 1]
    bias = bias_d @ (twin.W_U[:, 0] - twin.W_U[:, 1])
    assert torch.allclose(lost, head + bias)


def test_random_directions_have_the_contrasts_norm_and_other_parts():
    spec, model = build()
    found = attribute(model, contexts(spec), (0, 1), random_directions=40, seed=3)
    again = attribute(model, contexts(spec), (0, 1), random_directions=40, seed=3)
    assert torch.equal(found.component_kbp, again.component_kbp)
    own, random = found.component_kbp[0], found.component_kbp[1:]
    ratio = random.pow(2).mean().sqrt() / own.pow(2).mean().sqrt()
    assert 0.2 < ratio < 5 and not torch.allclose(random[0], own)


@published
def test_the_published_models_difference_is_explained(network, windows):  # noqa: F811
    found = attribute(network, context_of(windows), (0, 1))
    assert max(found.errors()) < TOLERANCE
    logits = torch.from_numpy(windows["action_logits"][:, -1])
    assert torch.allclose(found.difference_b.float(), logits[:, 0] - logits[:, 1], atol=1e-4)


def test_stage_writes_tables_figure_and_verdict(store, experiment_of, stage):
    run(experiment_of(stage))
    numbers = read_metrics(stage.path)
    assert numbers["attribution/identity_error"] < TOLERANCE
    assert numbers["attribution/distinct_inputs"] == 8
    parts = pd.read_parquet(stage.path / "tables" / "parts.parquet")
    components = pd.read_parquet(stage.path / "tables" / "components.parquet")
    total = components.groupby("window").value.sum()
    assert (total - components.groupby("window").ld.first()).abs().max() < TOLERANCE
    fine = parts.groupby("window").value.sum()
    rest = components[components.kind.isin(["embedding", "bias"])].groupby("window").value.sum()
    assert (fine + rest - total).abs().max() < TOLERANCE
    assert "key (" in " ".join(parts[parts.component == "state embedding"].part)
    result = stage.result()
    assert result.established == bool(numbers["attribution/established"])
    # With an interval over the four layouts, which the limit must lie below.
    low = numbers["attribution/largest_low"]
    assert result.established == (low > numbers["attribution/random_95"])
    ranking = result.tables["ranking"]
    for _, rows in ranking.groupby("target"):
        first = rows[rows.kind != "bias"].iloc[0]
        assert f"{rows.component.iloc[0]} carries" in stage.summary()
        assert first.n == 4 and first.interval == "t over 4 layouts"
    assert set(ranking.target) == set(stage.windows.targets)
    # What the figure shows is what the tables have.
    value = by_window(components)
    assert (value.sum() - total).abs().max() < 1e-9 and value.index[-1] == "all biases"
    sign = np.sign(parts.ld)
    first = result.tables["neurons"].iloc[0]
    of_it = (parts.component == f"L{first.layer:.0f} MLP") & (parts.part == f"{first.neuron:.0f}")
    of_target = parts.target == first.target
    assert (parts.value * sign)[of_it & of_target].mean() == pytest.approx(first.support)
    of_view = (parts.component == "state embedding") & of_target
    count = parts[of_target].window.nunique()
    assert (parts.value * sign)[of_view].sum() / count == pytest.approx(
        result.arrays["cells"][0].sum()
    )
    for name in ("attribution.png", "attribution.html"):
        assert (stage.path / "figures" / name).stat().st_size > 10_000


class Shifted(computing.Attributed):
    """Parts that do not add up, by far or by a number that is none."""

    by = 3.0

    def errors(self) -> tuple[float, float]:
        self.difference_b = self.difference_b + self.by
        return super().errors()


@pytest.mark.parametrize("by", [3.0, float("nan")])
def test_a_broken_identity_is_not_established(monkeypatch, by):
    spec, model = build()
    scramble(model)
    context = contexts(spec)
    frame = pd.DataFrame({"window": range(len(context)), "layout": "", "target": 0.9})
    settings = AttributionSpec(
        contrast=Contrast(pos=Action.left, neg=Action.right),
        random_directions=20, shown=3, seed=0,
    )  # fmt: skip
    assert all(c.holds for c in computing.compute(settings, model, context, frame).checks)
    monkeypatch.setattr(Shifted, "by", by)
    monkeypatch.setattr(computing, "Attributed", Shifted)
    result = computing.compute(settings, model, context, frame)
    assert not any(check.holds for check in result.checks) and not result.established
    assert result.metrics["established"] == 0


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"shown": 0}, "shown"),
        ({"random_directions": 5}, "random_directions"),
        ({"checkpoint": -1}, "checkpoint"),
        ({"seed": -1}, "seed"),
    ],
)
def test_impossible_values_are_named(stage, change, field):
    assert [name for name, _ in problems(dataclasses.replace(stage, **change))] == [field]


def test_a_contrast_needs_two_actions_and_windows_need_targets(stage):
    assert [n for n, _ in Contrast(pos=Action.left, neg=Action.left).check()] == ["neg"]
    wrong = dataclasses.replace(stage.windows, targets=(), count=0, seed=-1)
    assert [n for n, _ in problems(wrong)] == ["targets", "count", "seed"]
