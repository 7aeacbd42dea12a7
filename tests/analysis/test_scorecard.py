"""The scorecard: T0 exactly, negatives, and instruments that are broken on purpose."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from dtx.analysis.activation_patching import ActivationPatching
from dtx.analysis.core.answers import Subject
from dtx.analysis.core.listing import built_in
from dtx.analysis.core.patching_spec import Node
from dtx.analysis.core.result import Result
from dtx.analysis.core.scoring import Wrong
from dtx.analysis.core.truth import ANY_INPUT, NOTHING, OPEN, TOGETHER, Known, Truth
from dtx.analysis.scorecard import Negative, Scorecard
from dtx.analysis.scorecard.compute import auroc, score
from dtx.config.build import ConfigError
from dtx.config.compose import build_group, compose, experiment
from dtx.config.ranges import problems
from dtx.dt.planted.truth import circuit
from dtx.dt.shuffled_reward_to_go import ShuffledRewardToGo
from dtx.report import read_metrics
from dtx.running.runner import run
from tests.fast import FAST

VARIANTS = {
    "planted": {},
    "layer_norm": {"layer_norm": True},
    "superposed": {"dimensions": 12},
    "rotated": {"rotation": True},
    "backup_head": {"n_layers": 4, "backup_head": True},
    "negative_head": {"n_layers": 4, "negative_head": 0.3},
    "distractors": {"distractor_heads": 4},
    "low_threshold": {"layer_norm": True, "threshold": (0.1, 0.2)},
}
HARDER = {
    "harder": {"relays": ((2,),)},
    "relay_in_three_moves": {"n_layers": 4, "relays": ((2,), (3,))},
    "three_relays": {"relays": ((2, 3, 4),)},
    "redundant_heads": {"redundant_heads": True},
    "mean_reward_to_go": {"mean_reward_to_go": True},
    "silent_head": {"silent_head": True},
}


@pytest.fixture(scope="module")
def planted():
    plain, harder = build_group("dt/planted"), build_group("dt/planted_harder")
    made = {name: dataclasses.replace(plain, **changes) for name, changes in VARIANTS.items()}
    return made | {name: dataclasses.replace(harder, **c) for name, c in HARDER.items()}


def card(planted, rollouts, negatives) -> Scorecard:
    """Quick analyses of planted models and negatives, on the tests' small world."""
    whole = build_group("analysis/scorecard", ["pairs.dataset=null"])
    attribution = whole.analyses["attribution"]
    windows = dataclasses.replace(attribution.windows, dataset=rollouts)
    return dataclasses.replace(
        whole,
        known=planted,
        negatives=negatives,
        analyses={
            "attribution": dataclasses.replace(attribution, windows=windows, random_directions=20),
            "activation_patching": dataclasses.replace(
                whole.analyses["activation_patching"], nodes=(Node.resid_pre, Node.z, Node.mlp_out)
            ),
        },
        skip={name: ("attribution",) for name in planted if name != "planted"},
    )


@pytest.fixture(scope="module")
def stage(planted, rollouts, negatives) -> Scorecard:
    few = {name: planted[name] for name in ("planted", "backup_head")}
    return card(few, rollouts, negatives)


@pytest.fixture(scope="module")
def negatives(tiny):
    shuffled = {f.name: getattr(tiny, f.name) for f in dataclasses.fields(tiny)}
    untrained = dataclasses.replace(
        tiny, steps=0, optimiser=dataclasses.replace(tiny.optimiser, warm_up=0)
    )
    return {
        "untrained": Negative(model=untrained, wrong=Wrong.everything, min_ld_gap=0.02),
        "clone": Negative(
            model=dataclasses.replace(tiny, reward_to_go=False),
            wrong=Wrong.reward_to_go,
            min_ld_gap=0.02,
        ),
        "shuffled": Negative(
            model=ShuffledRewardToGo(**shuffled), wrong=Wrong.reward_to_go, min_ld_gap=0.02
        ),
    }


def gates(result: Result, gate: str) -> pd.DataFrame:
    table = result.tables["gates"]
    return table[table["gate"] == gate].set_index(["model", "analysis"])


def test_quick_analyses_are_exact_on_planted_models_and_silent_on_negatives(
    stage, negatives, store, experiment_of, monkeypatch
):
    run(experiment_of(stage))
    n = read_metrics(stage.path)
    measured = stage.result()
    exact = gates(measured, "T0 exact")
    assert exact["holds"].all(), exact["found"].tolist()
    assert n["scorecard/t0_recall"] == 1 and n["scorecard/t0_position"] == 1
    assert len(exact) == len(stage.known) + 1
    wrong = gates(measured, "T4 false positives")
    # Reward-to-go does move random weights of width 16 a little (5.4% of 56 on 2026-11-30): that is red, and
    # stays so; of models in which it cannot say anything nothing may be found.
    assert wrong.drop("untrained")["holds"].all(), wrong["found"].tolist()
    assert wrong.loc["untrained", "holds"].sum() >= 2, wrong["found"].tolist()
    assert {m for m, _ in wrong.index} == set(negatives)
    held, of = (n[f"scorecard/{name}"] for name in ("gates_held", "gates"))
    assert measured.finding.startswith(f"held {held:.0f} of {of:.0f} gates: identities ")
    assert measured.established == (held == of)
    # Something was measured in the negatives, on the scale of a decision of their own.
    answers = measured.tables["answers"]
    in_t4 = answers[(answers["kind"] == "T4") & (answers["analysis"] == "activation_patching")]
    in_t4 = in_t4[in_t4["part"] != "claims"]
    sizes = in_t4.groupby("model")["score"].apply(lambda score: score.abs().max())
    assert (sizes.drop("clone") > 0.001).all(), sizes
    assert (stage.path / "figures" / "scorecard.png").stat().st_size > 5000
    scores = pd.read_parquet(stage.path / "tables" / "scores.parquet")
    assert (scores.loc[scores["measure"] == "recall", "cells"] > 0).all()

    # What an instrument reports is broken: the gates must fall.
    real = ActivationPatching.answers

    def broken(change) -> Result:
        def answers(self, subject: Subject):
            return real(self, Altered(**{**vars(subject), "change": change}))

        monkeypatch.setattr(ActivationPatching, "answers", answers)
        result = stage.compute()
        assert not result.established
        return result

    late = gates(broken(lambda t: t.assign(position=(t["position"] + 1) % 14)), "T0 exact")
    late = late.xs("activation_patching", level="analysis")
    assert not late["holds"].any() and late["found"].str.contains("position").all(), late[
        "found"
    ].tolist()

    def noisy(table):
        noise = np.random.default_rng(0).normal(0, 1, len(table))
        return table.assign(rho=table["rho"] + noise, change=table["change"] + 5 * noise)

    found = broken(noisy)
    t0 = gates(found, "T0 exact").xs("activation_patching", level="analysis")
    assert not t0["holds"].any() and t0["found"].str.contains("false positives").all(), t0[
        "found"
    ].tolist()
    t4 = gates(found, "T4 false positives").xs("activation_patching", level="analysis")
    assert not t4["holds"].any(), t4["found"].tolist()
    blind = gates(broken(lambda t: t.assign(rho=0.0, change=0.0)), "T0 exact")
    assert blind.loc[("planted", "activation_patching"), "found"].count("recall 0") == 2


class Altered(Subject):
    """A subject whose tables are changed on the way."""

    def __init__(self, change, **fields):
        super().__init__(**fields)
        object.__setattr__(self, "change", change)

    def table(self, name):
        return self.change(super().table(name))


def test_inputs_are_the_cells_and_a_changed_analysis_reruns_its_own(stage, planted, negatives):
    assert stage.analyses["attribution"].label not in {s.label for s in stage.inputs().values()}
    assert stage.inputs()["planted.attribution"].dt == planted["planted"]
    assert "backup_head.attribution" not in stage.inputs()
    other = dataclasses.replace(stage.analyses["attribution"], random_directions=21)
    changed = dataclasses.replace(stage, analyses={**stage.analyses, "attribution": other})
    before, after = stage.inputs(), changed.inputs()
    moved = {name for name in before if before[name].key != after[name].key}
    assert moved == {f"{m}.attribution" for m in ("planted", *negatives)}
    assert stage.key != changed.key


def test_the_option_composes_models_and_analyses(planted):
    targets = experiment(compose(["analysis=[scorecard,calibration]"])).targets
    stage, calibration = targets["scorecard"], targets["calibration"]
    assert isinstance(stage, Scorecard)
    assert {n: m.key for n, m in stage.known.items() if n != "interchange"} == {
        n: m.key for n, m in planted.items()
    }
    assert stage.negatives["untrained"].model == calibration.untrained
    # As the control of a calibration, trained long enough to have a policy of its own.
    clone = dataclasses.replace(calibration.behaviour_clone, steps=500)
    assert stage.negatives["behaviour_clone"].model == clone
    shuffled = build_group("dt/shuffled_reward_to_go")
    assert stage.negatives["shuffled"].model.key == shuffled.key
    models = [
        (vars(c.stage).get("paths") or c.stage).dt for c in stage.cells
    ]  # of smallest_circuit
    assert calibration.dt not in models
    cells = {(cell.model, cell.analysis) for cell in stage.cells}
    about_a_model = {name for name, analysis in built_in().items() if analysis.scoring is not None}
    assert set(stage.analyses) == about_a_model  # every one, though none is named in the YAML
    assert ("interchange", "activation_patching") in cells and ("planted", "teacher") not in cells


def test_what_is_true_of_planted_nodes_and_edges(planted):
    known = Known(circuit(planted["planted"]), 5)
    resid, z = "blocks.0.hook_resid_pre", "blocks.1.attn.hook_z"
    assert known.node("instruction_flip", resid, None, 1) == Truth(1, 1.0)
    assert known.node("instruction_flip", resid, None, 4) == NOTHING
    assert known.node("instruction_flip", z, 0, 13) == Truth(1, 1.0)
    assert known.node("instruction_flip", z, 1, 13) == NOTHING
    assert known.node("rtg_zero", resid, None, 12) == Truth(1, 1.0)
    assert known.node("rtg_zero", resid, None, 9) == NOTHING
    assert known.node("decoy", resid, None, 1) == OPEN
    edge = known.edge
    assert edge("instruction_flip", "embed", "L1 H0", "v", 1) == Truth(1, 1.0)
    assert edge("instruction_flip", "embed", "L1 H0", "v", TOGETHER) == Truth(1, 1.0)
    assert edge("instruction_flip", "embed", "L1 H0", "v", 4) == NOTHING
    assert edge("instruction_flip", "embed", "L1 H0", "k", 1) == OPEN
    assert edge("swap_targets", "embed", "L1 H0", "v", 1) == NOTHING
    assert edge("swap_targets", "L1 MLP", "logits", "logits", 13) == Truth(1, 1.0)
    negative = Known(circuit(planted["negative_head"]), 5)
    assert negative.node("swap_targets", "blocks.2.attn.hook_z", 0, 13).rho < 0
    assert negative.edge("swap_targets", "L1 MLP", "logits", "logits", 13) == Truth(
        1, pytest.approx(1 / 0.7)
    )
    backup = Known(circuit(planted["backup_head"]), 5)
    assert backup.edge("instruction_flip", "embed", "L2 H0", "v", 1) == OPEN


def test_what_a_trained_circuit_leaves_open():
    from dtx.dt.interchange.measure import circuit_of

    stage = build_group("dt/interchange")
    inputs = {"instruction": {"v": 1.0}, "reward_to_go": {"k": 1.0}}
    now = Known(circuit_of(stage, inputs), 5)  # keys where it is keys
    assert now.edge("rtg_zero", "embed", "L0 H1", "k", TOGETHER) == Truth(1, 1.0)
    assert now.edge("rtg_zero", "embed", "L0 H1", "v", TOGETHER) == NOTHING
    assert now.edge("instruction_flip", "embed", "L0 H0", "v", 1) == Truth(1, 1.0)
    assert now.edge("instruction_flip", "embed", "L0 H0", "k", 1) == NOTHING
    assert not now.any_input
    # Of a model from before it was measured: one edge for all inputs.
    known = Known(dataclasses.replace(circuit_of(stage, inputs), variant={}), 5)
    assert known.any_input
    resid = "blocks.0.hook_resid_pre"
    assert known.node("instruction_flip", resid, None, 1) == Truth(1, 1.0)
    assert known.node("rtg_zero", resid, None, 12) == OPEN  # which reward-to-go token it reads
    assert known.node("rtg_zero", resid, None, 3) == OPEN
    assert known.node("rtg_zero", resid, None, 4) == NOTHING
    assert known.node("instruction_flip", "blocks.0.hook_mlp_out", None, 13) == OPEN
    # By keys or by values: one edge, whose size is the larger of the two.
    assert known.edge("instruction_flip", "embed", "L0 H0", ANY_INPUT, 1) == Truth(1, None)
    assert known.edge("rtg_zero", "embed", "L0 H1", ANY_INPUT, TOGETHER) == Truth(1, None)
    assert known.edge("rtg_zero", "embed", "L0 H1", ANY_INPUT, 3) == OPEN
    assert known.edge("instruction_flip", "embed", "L0 H1", ANY_INPUT, 1) == NOTHING
    assert known.edge("instruction_flip", "L0 H0", "L1 MLP", "mlp", 13) == OPEN
    assert known.edge("instruction_flip", "L0 H0", "L1 H2", ANY_INPUT, 13) == NOTHING
    assert not known.carriers()


def test_measures():
    assert auroc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1
    assert auroc(np.array([0.0, 1.0]), np.array([0.0, 1.0])) == 0.5
    assert auroc(np.array([0.0]), np.array([1.0, 2.0])) == 0
    said = pd.DataFrame(
        {
            "part": "",
            "edit": "flip",
            "what": ["a", "a", "a", "b", "b", "b"],
            "position": [0, 1, 2, 0, 1, 2],
            "score": [0.9, 0.0, -0.2, 0.0, 0.05, 0.0],
            "label": [1, 0, 0, 0, 1, np.nan],
            "expected": [1, 0, 0, 0, np.nan, np.nan],
        }
    )
    found = {row["measure"]: row for row in score(said, 0.1)}
    assert found["error"]["value"] == pytest.approx(0.2)
    assert found["recall"]["value"] == 0.5 and found["recall"]["cells"] == 2
    assert found["false_positives"]["value"] == pytest.approx(1 / 3)
    assert found["position"]["value"] == 1
    assert found["auroc"]["value"] == pytest.approx((3 + 2) / 6)
    assert found["recall"]["which"] == "b" and found["false_positives"]["which"] == "a"
    ends = found["recall"]["low"], found["recall"]["high"]
    assert ends == pytest.approx((0.0126, 0.9874), abs=1e-4)  # exact binomial, 1 of 2


def test_wrong_settings_are_explained(stage, planted, rollouts, tiny):
    wrong = dataclasses.replace(
        stage,
        known={"trained": tiny, "untrained": planted["planted"]},
        analyses={"data": rollouts},
        skip={"nobody": ("data",), "trained": ("nothing",)},
    )
    assert {field for field, _ in (*wrong.check(), *problems(wrong))} == {
        "known.trained",
        "negatives",
        "analyses.data",
        "skip",
    }
    with pytest.raises(ConfigError, match=r"gates\.found\.value: is a share"):
        build_group("analysis/scorecard", ["analysis.scorecard.gates.found.value=2"])


RED = {
    # Half way between two instructions the main head is silent: integrated gradients hear the backup there.
    ("backup_head", "attribution_patching"),
}
"""Gates of T0 that are known to fail (2026-11-22): the summary says so, and so does the figure."""


@pytest.mark.slow  # an agent, every analysis on every model, T1: many minutes; the models themselves are tiny
def test_the_readme_command_from_scratch(store, tmp_path):
    # The agent is a real one and plays enough: one that hardly knows the way (12 successes in 400 episodes)
    # reaches the decision after the nine steps of a compiled model's window and never with a high
    # reward-to-go, so that half of the deciding neurons never fire in the data, and no lens sees a decision.
    tiny = [o for o in FAST if not o.startswith(("analysis.", "agent."))]
    tiny = [*tiny, "dataset.episodes=2000", "dt.model.n_layers=2", "dt.steps=30"]
    config = compose(
        [
            "analysis=[scorecard]",
            f"store.path={tmp_path / 'store'}",
            "tracking.enabled=false",
            *tiny,
        ]
    )
    whole = experiment(config)
    run(whole)
    stage = whole.targets["scorecard"]
    found = stage.result()
    exact, trained = gates(found, "T0 exact"), gates(found, "T1 AUROC")
    assert set(exact.index[~exact["holds"]]) <= RED, exact["found"].to_dict()
    assert len(trained) >= 2 and trained["holds"].all(), trained["found"].to_dict()
    said = gates(found, "statements")
    assert said["holds"].all(), said.loc[~said["holds"], "found"].to_dict()
    assert gates(found, "identities")["holds"].all()
    for gate in ("T4 false positives", "T4 statements"):
        assert set(gates(found, gate).reset_index()["model"]) == set(stage.negatives)
