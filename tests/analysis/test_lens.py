import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from dtx.analysis.core.windows import join
from dtx.analysis.lens import Lens
from dtx.analysis.lens.compute import _formed, contributions
from dtx.analysis.lens.streams import (
    Drawing,
    Streams,
    Translators,
    _first_seen,
    divergence,
    fit,
    point_names,
    read,
    streams,
    windows_of,
)
from dtx.config.ranges import problems
from dtx.dt.rollout import decision_contexts
from dtx.report import read_metrics
from dtx.running.runner import run
from tests.analysis.core.test_windows import model
from tests.dt.toy import episodes as random_episodes

BAR = SimpleNamespace(advance=lambda *_: None)


@pytest.fixture
def stage(env, rollouts, tiny) -> Lens:
    return Lens(
        env=env, dataset=rollouts, dt=tiny, checkpoint=None, targets=(0.0, 0.9), windows=64,
        held_out=32, steps=20, batch_size=32, learning_rate=1e-3, explained=0.9, seed=0,
    )  # fmt: skip


def random_biases(network):
    """Biases and norms as after training, so that forgetting one shows."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ".b_" in name or name.endswith((".b", ".w")):
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"normalization_type": None},
        {"gated_mlp": True},
        {"positional_embedding": False},
        {"left_padding": True},
    ],
)
def test_last_point_is_the_logits_and_components_add_up(env, changes):
    network = random_biases(model(**changes))
    context = join(decision_contexts(network, env.decision, [0.0, 0.9]))
    last = np.zeros(context["action"].shape, bool)
    last[:, -1] = True
    found = streams(network, Drawing(context, last, np.arange(len(last))))
    assert found.resid_psd.shape[0] == len(point_names(2)) == 5
    with torch.no_grad():
        read_last, whole = read(network, found.resid_psd[-1]), network(context)[:, -1]
    assert torch.allclose(read_last, whole, atol=1e-5)
    parts, logits, names = contributions(network, context)
    assert len(parts) == len(names) == 6
    assert torch.allclose(parts.sum(0), logits, atol=1e-5)
    assert not torch.allclose(parts[:-1].sum(0), logits, atol=1e-2)  # biases matter here


def test_unfitted_translators_are_the_logit_lens():
    resid = torch.randn(5, 10, 16)
    assert torch.equal(Translators(5, 16)(resid), resid)


def test_a_linear_map_is_found(stage):
    """Where an inner point is a rotation of the last one, the tuned lens learns to undo it."""
    network = model()
    generator = torch.Generator().manual_seed(0)
    last = torch.randn(600, 16, generator=generator)
    rotation = torch.linalg.qr(torch.randn(16, 16, generator=generator))[0]
    logits = read(network, last).detach() * 3
    network.unembed.W_U.data *= 3
    network.unembed.b_U.data *= 3
    training = Streams(torch.stack([last @ rotation, last]), logits)
    longer = dataclasses.replace(stage, steps=400, batch_size=128, learning_rate=1e-2)
    translators = fit(network, training, longer, BAR)
    target = logits.log_softmax(-1)
    before = divergence(target, read(network, last @ rotation).log_softmax(-1)).mean()
    after = divergence(
        target, read(network, translators(training.resid_psd)[0]).log_softmax(-1)
    ).mean()
    assert after < 0.02 < 0.1 < before
    assert torch.equal(translators(training.resid_psd)[-1], last)


def test_read_states_are_distinct_and_held_out(store, experiment_of, stage, tiny):
    run(experiment_of(tiny))
    network = tiny.load()
    fitting, reading = windows_of(stage, network, stage.dataset.load(), tiny.windows)
    held_out, fresh = reading.context, reading.chosen

    def pasts(windows, chosen):
        found = []
        for b, t in zip(*np.nonzero(chosen), strict=True):
            rows = windows["table"][windows["observation"][b, : t + 1]].numpy().tobytes()
            found.append(
                (rows, tuple(windows["action"][b, :t].tolist()),
                 tuple(windows["reward_to_go"][b, : t + 1].tolist()),
                 tuple(windows["timestep"][b, : t + 1].tolist()))
            )  # fmt: skip
        return found

    training, test = pasts(fitting.context, fitting.chosen), pasts(held_out, fresh)
    assert len(set(training)) == len(training) and len(set(test)) == len(test) > 0
    assert not set(training) & set(test)
    everything = _first_seen(held_out, np.asarray(fresh) | True, set())
    assert everything.sum() >= fresh.sum()


def test_windows_are_read_at_their_natural_length_and_alike(stage):
    """Cut to the last chosen state, the states are those of the windows as they are padded."""
    network = model()
    context = windows_of(stage, network, random_episodes(n=60, horizon=14))[0].every(8).context
    real = np.ones(context["action"].shape, bool)
    chosen = real & (np.arange(real.shape[1]) < 3)
    short = streams(network, Drawing(context, chosen, np.arange(len(real))))
    long = streams(network, Drawing(context, real, np.arange(len(real))))
    which = torch.from_numpy(chosen[real])
    assert torch.allclose(short.resid_psd, long.resid_psd[:, which], atol=1e-5)
    ends = streams(network, Drawing(context, chosen, np.arange(len(real))), ends_alone=True)
    assert torch.equal(ends.resid_psd, short.resid_psd[[0, -1]])


def test_formed_means_from_there_on(stage):
    rows = pd.DataFrame(
        {"model": "m", "lens": "l", "order": range(4), "unexplained_high": [0.05, 0.5, 0.09, 0.0]}
    ).set_index(["model", "lens", "order"])
    assert _formed(stage, rows, "m", "l", 3) == 2


def test_stage_writes_tables_figure_and_verdicts(store, experiment_of, stage):
    run(experiment_of(stage))
    numbers = read_metrics(stage.path)
    assert numbers["lens/identity_error"] < 1e-4
    points = pd.read_parquet(stage.path / "tables" / "points.parquet")
    assert len(points) == 2 * 2 * 3 and (points.kl >= -1e-9).all()
    last = points[points.order == points.order.max()]
    assert last.unexplained.max() < 1e-6 and (last.agreement == 1).all()
    assert (points.states == numbers["lens/distinct_inputs"]).all()
    decision = pd.read_parquet(stage.path / "tables" / "decision.parquet")
    components = pd.read_parquet(stage.path / "tables" / "components.parquet")
    final = decision[(decision.lens == "logit lens") & (decision.order == 2)]
    total = components.groupby(["layout", "target"]).value.sum()
    for row in final.itertuples():
        assert total[row.layout, row.target] == pytest.approx(row.value, abs=1e-4)
    result = stage.result()
    assert result.claim("tuned_lens_better").text in stage.summary()
    assert len(result.checks) == 2 and all(check.holds for check in result.checks)
    (control,) = result.controls
    assert control.against_interval[0] < control.against and result.established == control.holds
    assert (points.n <= 32).all() and points.interval.str.contains("episodes").all()
    assert (stage.path / "figures" / "lens.png").stat().st_size > 10_000
    assert {f"lens/{k}": v for k, v in stage.compute().metrics.items()} == numbers


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"windows": 0}, "windows"),
        ({"steps": -1}, "steps"),
        ({"explained": 1.0}, "explained"),
        ({"targets": ()}, "targets"),
    ],
)
def test_impossible_values_are_named(stage, change, field):
    assert field in [name for name, _ in problems(dataclasses.replace(stage, **change))]
