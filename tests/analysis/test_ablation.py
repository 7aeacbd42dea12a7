"""Ablation: one slow ablation at a time, exact identities, and the planted model's own nodes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dtx.analysis.ablation import Ablation
from dtx.analysis.ablation.data import data_of, reference_of
from dtx.analysis.ablation.spec import AblatedTokens, AblationMethod
from dtx.analysis.core.inputs import Contrast, Inputs
from dtx.config.compose import build_group
from dtx.config.ranges import problems
from dtx.dt.model import DecisionTransformerModel, initialise
from dtx.dt.planted.compile import compiled
from dtx.dt.planted.features import lay_out
from dtx.env.actions import Action
from dtx.errors import UserError
from dtx.report import read_metrics
from dtx.running.runner import run
from tests.analysis.scripted import Scripted
from tests.dt.toy import TINY, Recorded

HOOKS = {
    "head": "attn.hook_z",
    "attention": "hook_attn_out",
    "mlp": "hook_mlp_out",
    "neuron": "mlp.hook_post",
}


@dataclass(frozen=True)
class Given:
    """A model at hand in the place of a stage that gives one."""

    model: DecisionTransformerModel
    label = key = "given"

    @property
    def path(self) -> Path:
        raise AssertionError("nothing is read from the store")

    @property
    def sizes(self):
        return self.model.cfg

    def load(self) -> DecisionTransformerModel:
        return self.model

    def checkpoints(self) -> dict[int, Path]:
        return {}


def model(**changes) -> DecisionTransformerModel:
    stage = build_group("dt/memory_dt", [*TINY, "dt.windows.context=9", "dt.model.n_ctx=26"])
    made = DecisionTransformerModel(dataclasses.replace(stage.model_config(), **changes))
    initialise(made, None, 0.5, 3)
    for name, parameter in made.named_parameters():
        if ".b_" in name:  # zero would hide what becomes of biases
            torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(1))
    return made.eval()


def planted(*overrides: str) -> DecisionTransformerModel:
    stage = build_group("dt/planted", list(overrides))
    layout = lay_out(
        stage.features(), stage.dimensions, stage.layer_norm, stage.rotation, stage.seed
    )
    return compiled(stage, layout)


def ablation(env) -> Ablation:
    """Of a random model, on recorded demonstrations."""
    return Ablation(
        windows=Inputs(env=env, dataset=Recorded(), targets=(0.0, 0.892), count=6, seed=0),
        dt=Given(model()),
        checkpoint=None,
        contrast=Contrast(pos=Action.left, neg=Action.right),
        methods=(AblationMethod.zero, AblationMethod.mean, AblationMethod.resample),
        tokens=AblatedTokens.last,
        neurons=(),
        silent=(),
        reference=12,
        donors=3,
        random_directions=20,
        shown=4,
        min_ld_gap=0.5,
        min_effect=0.05,
        tolerance=1e-3,
        seed=0,
        at_once=100,
    )


@pytest.fixture
def stage(env) -> Ablation:
    return ablation(env)


CASES = {
    "plain": ({}, {}),
    "everywhere": ({}, {"tokens": AblatedTokens.all, "neurons": (0, 1)}),
    "gated, without LayerNorm": (
        {"gated_mlp": True, "act_fn": "relu", "normalization_type": None},
        {"neurons": (1,)},
    ),
    "left padding": ({"left_padding": True}, {"tokens": AblatedTokens.all}),
    "behaviour clone": ({"reward_to_go": False, "n_ctx": 17}, {}),
    "with silent nodes": ({}, {"silent": ("L0H1", "MLP1N3")}),
}


@pytest.mark.parametrize("case", CASES)
def test_itself_is_nothing_and_parts_together_are_their_output(stage, case):
    changes, fields = CASES[case]
    found = dataclasses.replace(stage, dt=Given(model(**changes)), **fields).compute()
    size = max(1.0, found.tables["windows"].ld.abs().mean())
    assert found.metrics["self_change"] < 1e-5 * size
    assert found.metrics["identity_error"] < 2e-5 * size
    assert found.metrics["distinct_inputs"] == (4 if "clone" in case else 8)
    assert found.tables["windows"].change.abs().max() > 0.01
    assert found.tables["effects"].kl.min() >= 0
    # Every window of a node once by each method, and a random direction for each node but weak neurons.
    assert not found.tables["windows"].duplicated(["method", "name", "window"]).any()
    missing = found.tables["ranking"][found.tables["ranking"].random_95.isna()]
    assert set(missing.kind) <= {"neuron"}


def test_means_that_were_taken_over_a_weight_axis_would_be_found(stage, monkeypatch):
    from dtx.analysis.ablation.data import Data

    def wrong(self, name):
        value = self.cache[name]
        return value.mean(-1, keepdim=True).mean(0).expand(value.shape[1:])

    monkeypatch.setattr(Data, "mean", wrong)
    found = dataclasses.replace(stage, methods=(AblationMethod.mean,)).compute()
    assert found.metrics["identity_error"] > 0.01
    assert not found.established and "check failed: all " in found.summary


@pytest.mark.parametrize(
    ("tokens", "silent"),
    [
        (AblatedTokens.last, ()),
        (AblatedTokens.all, ("L0H1",)),
        pytest.param(AblatedTokens.all, (), marks=pytest.mark.slow),
        pytest.param(AblatedTokens.last, ("L0H1",), marks=pytest.mark.slow),
    ],
)
def test_the_batch_is_one_ablation_after_the_other(stage, tokens, silent):
    network = model(gated_mlp=True, act_fn="relu")
    methods = (AblationMethod.zero, AblationMethod.mean)
    wanted = dataclasses.replace(
        stage, dt=Given(network), tokens=tokens, silent=silent, neurons=(1,), methods=methods
    )
    found = wanted.compute()
    context, _ = wanted.windows.deciding(network)
    data = _data_of(wanted, network)

    def mute(value, hook):
        value[:, :, 1] = 0
        return value

    muted = [("blocks.0.attn.hook_z", mute)] if silent else []
    names = [f"blocks.{layer}.{hook}" for layer in (0, 1) for hook in HOOKS.values()]
    with torch.no_grad(), network.hooks(fwd_hooks=muted):
        before = network(context)[:, -1].double()
        _, cache = network.run_with_cache(data, names_filter=names)
    ld = before[:, 0] - before[:, 1]
    rng = np.random.default_rng(0)
    for index in rng.choice(len(found.tables["windows"]), 40, replace=False):
        row = found.tables["windows"].iloc[index]
        name = f"blocks.{row.layer}.{HOOKS[row.kind]}"
        mean = cache[name].mean(0) if row.method == "mean" else torch.zeros_like(cache[name][0])

        def put(value, hook, row=row, mean=mean):
            value = value.clone()
            where = slice(None) if tokens is AblatedTokens.all else -1
            if row.kind in ("head", "neuron"):
                value[:, where, row.unit] = mean[where, row.unit]
            else:
                value[:, where] = mean[where]
            return value

        with torch.no_grad():
            after = network.run_with_hooks(context, fwd_hooks=[*muted, (name, put)])[:, -1].double()
        b = row.window
        # Left is right in layouts 0 and 2: the choice is the turn that the mean over layouts prefers.
        turns = torch.tensor([1.0, -1.0, 1.0, -1.0] * 2)
        mine = slice(0, 4) if b < 4 else slice(4, 8)
        choice = turns[b] * (ld * turns)[mine].mean().sign()
        change = (after[b, 0] - after[b, 1] - ld[b]) * choice
        assert row.change == pytest.approx(float(change), abs=2e-5), row["name"]
        p, q = before[b].softmax(-1), after[b].softmax(-1)
        assert row.kl == pytest.approx(float((p * (p / q).log()).sum()), abs=2e-5)
        assert row.flip == float(before[b].argmax() != after[b].argmax())


def _data_of(stage: Ablation, network: DecisionTransformerModel):
    from dtx.analysis.core.windows import beginnings

    episodes = stage.windows.dataset.load()
    return beginnings(episodes, network.cfg, 5, stage.reference, stage.seed + 1)[0]


def test_without_a_decision_donors_are_tokens_of_the_same_kind(stage):
    """Demonstrations' windows that end anywhere have paddings of all lengths."""
    from dtx.analysis.core.windows import real_tokens

    elsewhere = dataclasses.replace(stage.windows, env=build_group("env/door_key"))
    network = model(left_padding=True)
    wanted = dataclasses.replace(
        stage, windows=elsewhere, dt=Given(network), tokens=AblatedTokens.all, reference=20
    )
    context, _ = elsewhere.deciding(network)
    with torch.no_grad():
        reference = reference_of(elsewhere, network, context, 20, wanted.seed + 1)
        data = data_of(wanted, network, context, reference)
    assert not data.aligned
    real = real_tokens(data.context, network.cfg)
    assert not real.all() and real[:, -1].all()
    token = torch.arange(context.shape[1])
    assert (data.token_bdn % 3 == token % 3).all()
    assert real[data.window_bdn, data.token_bdn].all()
    name = "blocks.1.hook_mlp_out"
    states = data.cache[name][:, 1::3][real[:, 1::3]]
    assert torch.allclose(data.mean(name)[-1], states.mean(0), atol=1e-5)
    found = wanted.compute()
    assert found.metrics["self_change"] < 1e-5
    assert found.metrics["identity_error"] < 1e-4
    assert set(found.tables["effects"].target) == {"all"}


def test_data_are_the_first_steps_of_training_episodes(stage):
    episodes, network = Recorded().load(), model()
    from dtx.analysis.core.windows import beginnings

    context, chosen = beginnings(episodes, network.cfg, 5, 12, 1)
    assert (episodes.split[chosen] == 0).all() and (episodes.length[chosen] >= 5).all()
    rows = episodes.start[chosen][:, None] + np.arange(5)
    assert (context["action"].numpy() == episodes.action[rows]).all()
    assert (context["timestep"].numpy() == np.arange(5)).all()
    with pytest.raises(UserError, match="lasts 99 steps"):
        beginnings(episodes, network.cfg, 99, 12, 1)


# --- the planted model -------------------------------------------------------------------------------


def needed(found, method: str = "zero", *kinds: str, what: str = "needed") -> set[str]:
    """At some reward-to-go."""
    ranking = found.tables["ranking"]
    mine = ranking[(ranking.method == method) & ranking[what]]
    return set(mine[mine.kind.isin(kinds)]["name"] if kinds else mine["name"])


def test_exactly_the_circuits_nodes_are_needed(stage):
    zero = dataclasses.replace(stage, methods=(AblationMethod.zero,), neurons=(1,), shown=8)
    found = dataclasses.replace(zero, dt=Given(planted())).compute()
    deciding = {f"MLP1N{i}" for i in range(8)}
    assert needed(found) == {"L0H0", "L1H0", "ATTN0", "ATTN1", "MLP0", "MLP1"} | deciding
    by = found.tables["effects"].set_index(["name", "target"]).change
    # Without reward-to-go it takes the wrong turn, which it should at 0; without the rest it knows nothing.
    assert by["L0H0", "0"] == pytest.approx(0, abs=1e-4)
    assert by["L0H0", "0.892"] == pytest.approx(-80, abs=1e-3)
    for name in ("L1H0", "MLP0", "MLP1", "ATTN1"):
        for target in ("0", "0.892"):
            assert by[name, target] == pytest.approx(-40, abs=1e-3), name
    flip = found.tables["effects"].set_index(["name", "target"]).flip
    assert flip["L0H0", "0.892"] == 1 and flip["L1H0", "0"] == 1 and flip["L2H0", "0"] == 0


def test_heads_that_only_distract_have_no_effect(stage):
    network = planted("dt.distractor_heads=9")
    found = dataclasses.replace(stage, dt=Given(network)).compute()
    assert needed(found, "zero", "head", "mlp") == {"L0H0", "L1H0", "MLP0", "MLP1"}
    others = found.tables["windows"][
        (found.tables["windows"].kind == "head")
        & ~found.tables["windows"]["name"].isin(["L0H0", "L1H0"])
    ]
    assert others.change.abs().max() < 1e-3
    # They do write: what random directions of that size would do is not nothing.
    ranking = found.tables["ranking"].set_index(["method", "name", "target"])
    assert (ranking.loc[[("zero", n, "0.892") for n in ("L0H1", "L1H2")], "random_95"] > 1).all()


def test_a_backup_head_takes_over(stage):
    network = planted("dt.n_layers=4", "dt.backup_head=true")
    zero = dataclasses.replace(
        stage, methods=(AblationMethod.zero,), dt=Given(network), tokens=AblatedTokens.all
    )
    assert needed(zero.compute(), "zero", "head") == {"L0H0"}
    silent = dataclasses.replace(zero, silent=("L1H0",)).compute()
    assert needed(silent, "zero", "head") == {"L0H0", "L2H0"}
    assert silent.metrics["ld_at_0.892"] == pytest.approx(40, abs=1e-3)
    by = silent.tables["effects"].set_index(["name", "target"]).change
    assert by["L2H0", "0.892"] == pytest.approx(-40, abs=1e-3)


def test_a_negative_head_stands_in_the_way(stage):
    network = planted("dt.negative_head=0.25")
    found = dataclasses.replace(stage, methods=(AblationMethod.zero,), dt=Given(network)).compute()
    by = found.tables["effects"].set_index(["name", "target"]).change
    for target in ("0", "0.892"):
        assert by["L2H0", target] == pytest.approx(10, abs=1e-3)
        assert by["MLP1", target] == pytest.approx(-30, abs=1e-3)
    # What it takes away is no need: the sign counts.
    assert needed(found, what="hinders") == {"L2H0", "ATTN2"}
    assert not needed(found) & {"L2H0", "ATTN2"}


# --- the stage ---------------------------------------------------------------------------------------


def test_the_stage_writes_tables_figures_and_a_verdict(env, stage, store, experiment_of):
    built = build_group("dt/planted")
    windows = dataclasses.replace(stage.windows, dataset=Scripted(env=env))
    stage = dataclasses.replace(
        stage, windows=windows, dt=built, neurons=(1,), reference=64, donors=4, shown=8
    )
    run(experiment_of(stage))
    numbers = read_metrics(stage.path)
    assert numbers["ablation/identity_error"] < 1e-3 and numbers["ablation/token_for_token"] == 1
    assert numbers["ablation/distinct_reference"] > 8
    assert stage.result().established and len(stage.result().checks) == 3
    assert stage.summary().startswith(
        "left - right logit difference on the side of one turn in all layouts: at RTG 0 40.00, "
        "at RTG 0.892 40.00; zero: at RTG 0 8 of 26 nodes needed"
    )
    # At 0 nothing reads reward-to-go; there four of the eight neurons speak, and four others at .892.
    assert "; at RTG 0.892 10 of 26 nodes needed, most L0H0 -80.00" in stage.summary()
    effects = pd.read_parquet(stage.path / "tables" / "effects.parquet")
    kinds = effects.groupby("method").interval.first()
    assert kinds["zero"] == "all 4 layouts" and kinds["resample"].startswith("t over 4 donors")
    ranking = pd.read_parquet(stage.path / "tables" / "ranking.parquet")
    for method in ("mean", "resample"):  # from data the same heads matter
        mine = ranking[(ranking.method == method) & ranking.needed & (ranking.kind == "head")]
        assert set(mine["name"]) == {"L0H0", "L1H0"}
    for name in ("ablation", "ablation_neurons"):
        assert (stage.path / "figures" / f"{name}.png").stat().st_size > 10_000


def test_a_window_that_is_not_itself_is_not_established(stage, monkeypatch):
    from dtx.analysis.ablation.data import Data

    donor = Data.donor
    monkeypatch.setattr(Data, "donor", lambda self, *at: donor(self, *at) + 1)
    found = dataclasses.replace(stage, methods=(AblationMethod.zero,)).compute()
    assert found.metrics["self_change"] > 0.01 and not found.established
    assert "a window resampled from itself is unchanged" in found.summary


def test_where_no_node_is_needed_nothing_is_established(stage):
    """A tolerance above every effect: none counts as one."""
    found = dataclasses.replace(stage, methods=(AblationMethod.zero,), tolerance=1e4).compute()
    assert all(check.holds for check in found.checks) and not found.established
    assert "no node needed beyond random ones" in found.finding


def test_a_node_that_is_not_there_is_named(stage):
    with pytest.raises(UserError, match="silent: the model has no node L0H9"):
        dataclasses.replace(stage, silent=("L0H9",)).compute()
    with pytest.raises(UserError, match="neurons: the model has layers 0 to 1, not 5"):
        dataclasses.replace(stage, neurons=(5,)).compute()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"methods": ()}, "methods"),
        ({"methods": (AblationMethod.zero, AblationMethod.zero)}, "methods"),
        ({"neurons": (-1,)}, "neurons"),
        ({"silent": ("H1",)}, "silent"),
        ({"donors": 0}, "donors"),
        ({"random_directions": 5}, "random_directions"),
        ({"min_ld_gap": 0.0}, "min_ld_gap"),
        ({"min_effect": 2.0}, "min_effect"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"checkpoint": -1}, "checkpoint"),
        ({"seed": -1}, "seed"),
    ],
)
def test_impossible_values_are_named(stage, change, field):
    wrong = dataclasses.replace(stage, **change)
    found = [*problems(wrong), *wrong.check()]
    assert [name.split("[")[0] for name, _ in found] == [field]
