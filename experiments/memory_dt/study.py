"""Run the memory_dt preset for several seeds, two at a time, and put the results side by side.

Each seed has its own agent, demonstrations, DT and controls. What is done already is reused.

    python experiments/memory_dt/study.py                 # seeds 200-209: results.md, results.json, figures/
    python experiments/memory_dt/study.py --preset memory_dt_26 --out experiments/memory_dt_26
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from dtx.analysis.core.result import Verdict
from dtx.config.compose import Experiment, compose, experiment
from dtx.config.expected import judge, measure, path_of, read
from dtx.dataset.dataset import Dataset
from dtx.figures import BLACK, GREY, MODEL_COLOURS, OUTCOME_COLOURS, PHONE, headline, new
from dtx.report import Report, read_curves, read_metrics
from dtx.statistics import Estimate, mean_estimate, share_estimate
from dtx.store.store import Store, use
from dtx.verbs.reproduce import report

HERE = Path(__file__).parent
NUMBERS = {  # what is shown, where it stands, and which way is good
    "agent: success": ("agent", "agent/success"),
    "agent: attempts": ("agent", "agent/attempts"),
    "agent: frames to solved": ("agent", "agent/frames_to_solved"),
    "demonstrations: success": ("dataset", "data/n_success"),
    "demonstrations: wrong": ("dataset", "data/n_wrong"),
    "demonstrations: truncated": ("dataset", "data/n_truncated"),
    "RTG .9: success": ("calibration", "calibration/success_high"),
    "RTG 0: return": ("calibration", "calibration/return_low"),
    "failing demonstrations: return": ("calibration", "calibration/failing_return"),
    "RTG 0, greedy: layouts ending wrong": ("calibration", "calibration/greedy_wrong_layouts"),
    "RTG 0, junction: P(wrong turn)": ("calibration", "calibration/junction_wrong_low"),
    "RTG 0, junction: P(right turn)": ("calibration", "calibration/junction_right_low"),
    "demonstrations there: wrong": ("calibration", "calibration/demonstrated_wrong_low"),
    "demonstrations there: right": ("calibration", "calibration/demonstrated_right_low"),
    "junction: distance from the demonstrations": (
        "calibration",
        "calibration/junction_distance_low",
    ),
    "Spearman": ("calibration", "calibration/spearman"),
    "mean distance of return and target": ("calibration", "calibration/mae"),
    "return at .9 less return at 0": ("calibration", "calibration/response"),
    "shuffled returns: the same": ("calibration", "calibration/shuffled_response"),
    "behaviour clone: spread": ("calibration", "calibration/clone_spread"),
    "behaviour clone: return": ("calibration", "calibration/clone_return"),
    "untrained: return": ("calibration", "calibration/untrained_return"),
    "uniformly random: return": ("calibration", "calibration/random_return"),
    "steered": ("calibration", "calibration/steered"),
    "calibrated": ("calibration", "calibration/calibrated"),
}


ESTABLISHED = "both, with all controls held"
VERDICTS = ("steered", "calibrated", ESTABLISHED)
"""Rows that are 1 or 0 for a seed."""
LEFT = 0.9
"""P(right turn) at target .9 above which training has left the plateau of .5: it ignores the instruction."""


def main() -> int:
    """Run, collect, write; exit status 1 if a number left its tolerance in expected.json."""
    chosen = arguments(__doc__, "memory_dt").parse_args()
    if not run(chosen):
        return 2
    table, curves, decisions = collect(chosen)
    chosen.out.mkdir(parents=True, exist_ok=True)
    write(chosen.out, table)
    draw(chosen.out, curves, decisions)
    return check(chosen)


def arguments(text: str | None, preset: str) -> argparse.ArgumentParser:
    """What every script over seeds takes."""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(200, 210)))
    parser.add_argument("--preset", default=preset)
    parser.add_argument("--jobs", type=int, default=2, help="seeds at once, one thread each")
    parser.add_argument("--store", type=Path, default=Path("store"))
    parser.add_argument("--out", type=Path, default=HERE)
    return parser


def run(chosen: argparse.Namespace) -> bool:
    """Run the preset for all seeds; false if a stage failed, which dtx has told."""
    seeds = ",".join(map(str, chosen.seeds))
    what = [f"experiment={chosen.preset}", f"seed={seeds}", f"store.path={chosen.store}"]
    if chosen.jobs > 1:
        what += ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={chosen.jobs}"]
    return subprocess.run([sys.executable, "-m", "dtx", "run", "-m", *what]).returncode == 0


def composed(seed: int, chosen: argparse.Namespace) -> Experiment:
    """The preset's experiment of one seed."""
    return experiment(
        compose([f"experiment={chosen.preset}", f"seed={seed}", f"store.path={chosen.store}"])
    )


def collect(chosen: argparse.Namespace) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Numbers by seed (a column each), and all seeds' calibration curves and junction choices."""
    store = use(Store(chosen.store))
    columns, curves, decisions = {}, [], []
    for seed in chosen.seeds:
        calibration = composed(seed, chosen).targets["calibration"]
        stages = {
            "calibration": calibration,
            "shuffled": calibration.shuffled,
            "dt": calibration.dt,
            "dataset": calibration.dataset,
            "agent": calibration.dataset.agent,
        }
        numbers = {
            name: read_metrics(stages[place].path).get(key)
            for name, (place, key) in NUMBERS.items()
        }
        numbers[ESTABLISHED] = float(
            all(claim.verdict is Verdict.CONFIRMED for claim in calibration.result().claims)
        )
        seconds = {name: store.done(stage)["cpu_seconds"] for name, stage in stages.items()}
        agent_share = (numbers["agent: frames to solved"] or np.nan) / stages["agent"].frames
        numbers["agent: CPU-s to solved"] = seconds["agent"] * agent_share
        numbers |= _along_training(stages["dt"].path, stages["shuffled"].steps)
        numbers |= {f"{name}: CPU-s": value for name, value in seconds.items()}
        columns[seed] = numbers
        curves.append(
            pd.read_parquet(calibration.path / "tables" / "curve.parquet").assign(seed=seed)
        )
        decisions.append(
            pd.read_parquet(calibration.path / "tables" / "decision.parquet").assign(seed=seed)
        )
    return pd.DataFrame(columns), pd.concat(curves), pd.concat(decisions)


def _along_training(folder: Path, steps: int) -> dict[str, float]:
    """When a model left the plateau, and what it did after as many steps as the shuffled one has."""
    points = read_curves(folder)
    left = [point["step"] for point in points if point["right_turn_at_high"] > LEFT]
    there = next(point for point in points if point["step"] >= steps)
    return {
        "training: steps until the plateau is left": float(left[0]) if left else np.nan,
        "training: RTG .9, P(right turn) at the shuffled model's steps": there[
            "right_turn_at_high"
        ],
    }


def write(out: Path, table: pd.DataFrame, name: str = "results") -> None:
    """NAME.json, and NAME.md with means and t intervals over seeds."""
    (out / f"{name}.json").write_text(json.dumps(table.to_dict(), indent=1) + "\n")
    text = markdown(table)
    (out / f"{name}.md").write_text(text)
    print(text)


def demonstrations(chosen: argparse.Namespace, seed: int, *more: str) -> Dataset:
    """The demonstrations of a seed, recorded if they are not in the store.

    Args:
        more: Overrides.

    Raises:
        SystemExit: A stage failed, which dtx has told.
    """
    what = [f"experiment={chosen.preset}", "target=dataset", f"seed={seed}", *more]
    what.append(f"store.path={chosen.store}")
    dataset = experiment(compose(what)).targets["dataset"]
    assert isinstance(dataset, Dataset)
    if (
        not use(Store(chosen.store)).has(dataset)
        and subprocess.run([sys.executable, "-m", "dtx", "run", *what]).returncode
    ):
        raise SystemExit(2)
    return dataset


def markdown(table: pd.DataFrame) -> str:
    """The numbers (rows) by seed (columns) as a table, with their means over seeds."""
    seeds = "".join(f" {s} |" for s in table)
    head = f"| | mean [95%, t over {len(table.columns)} seeds; of verdicts exact binomial] |{seeds}"
    lines = [head, "|---|---|" + "---|" * len(table.columns)]
    for name, row in table.iterrows():
        cells = "".join(f" {_format(v)} |" for v in row)
        lines.append(f"| {name} | {words(over_seeds(row.to_numpy(float), str(name)))} |{cells}")
    return "\n".join(lines) + "\n"


def over_seeds(values: np.ndarray, name: str = "") -> Estimate:
    """The mean over seeds, of verdicts the share; seeds without the number are left out."""
    values = values[~np.isnan(values)]
    if name in VERDICTS:
        return share_estimate(round(values.sum()), len(values), of="seeds")
    return mean_estimate(values, of="seeds")


def words(mean: Estimate) -> str:
    """A mean and its interval, which is not shown where all seeds agree."""
    if np.isnan(mean.value):
        return "-"
    if np.isnan(mean.low) or mean.low == mean.high:
        return _format(mean.value)
    return f"{_format(mean.value)} [{_format(mean.low)}, {_format(mean.high)}]"


def _format(value: float) -> str:
    if value is None or np.isnan(value):
        return "-"
    return (
        f"{value:,.0f}"
        if abs(value) >= 100
        else f"{value:.3g}"
        if value == int(value)
        else f"{value:.3f}"
    )


def draw(out: Path, curves: pd.DataFrame, decisions: pd.DataFrame) -> None:
    """All seeds' calibration curves with their controls, and the choice at the junction.

    Curves of a model that was not played (an older record has none with shuffled returns) are left out.
    """
    from dtx.analysis.calibration.spec import CLONE, DT, RANDOM, RECORDED, SHUFFLED, UNTRAINED

    heights = [1.5, 1]
    figure, axes = new(PHONE, 6.4, mosaic=[["curve"], ["junction"]], height_ratios=heights)
    axis = axes["curve"]
    axis.plot([0, 1], [0, 1], color=GREY, ls="--", lw=1, label="return = target")
    for name, colour, line in (
        (DT, MODEL_COLOURS["dt"], "-"),
        (CLONE, MODEL_COLOURS["behaviour clone"], "--"),
        (SHUFFLED, MODEL_COLOURS["shuffled"], "-."),
        (UNTRAINED, MODEL_COLOURS["untrained"], "-"),
        (RANDOM, BLACK, ":"),
    ):
        part = curves[curves.model == name].pivot_table(
            index="target", columns="seed", values="mean_return"
        )
        if len(part):
            axis.plot(part.index, part, color=colour, alpha=0.35, lw=0.8, ls=line)
            axis.plot(part.index, part.mean(axis=1), color=colour, lw=2.2, ls=line, label=name)
    axis.set(xlabel="target reward-to-go", ylabel="achieved return", ylim=(-0.03, 1.03))
    axis.legend(loc="upper left", fontsize=7.5)
    axis = axes["junction"]
    for column, outcome, name, line, mark in (
        ("wrong_turn", "wrong", "wrong turn", "--", "D"),
        ("right_turn", "success", "right turn", "-", "o"),
    ):
        colour = OUTCOME_COLOURS[outcome]
        model = decisions[decisions.source == DT].pivot_table(
            index="target", columns="seed", values=column
        )
        axis.plot(model.index, model, color=colour, alpha=0.35, lw=0.8, ls=line)
        axis.plot(model.index, model.mean(axis=1), color=colour, lw=2.2, ls=line, label=name)
        data = decisions[decisions.source == RECORDED].groupby("target")[column].mean()
        axis.plot(data.index, data, ls="", marker=mark, ms=6, mfc="white", mec=colour, mew=1.6,
                  label=f"demonstrations, {name}")  # fmt: skip
    axis.set(
        xlabel="target reward-to-go", ylabel="P(turn)", title="At the decision", ylim=(-0.03, 1.03)
    )
    axis.legend(loc="upper left", fontsize=7.5)
    ends = curves[curves.model == DT].groupby("target").mean_return.mean()
    seeds = curves.seed.nunique()
    headline(
        figure,
        f"Asked for 0 the DT achieves a return of {ends.iloc[0]:.2f}, asked for 0.9 of {ends[0.9]:.2f} "
        f"(mean of {seeds} seeds)",
        "thin: a seed, thick: mean; controls: behaviour clone, shuffled returns, untrained, random",
    )
    Report(out).figure("calibration_over_seeds", figure)


def check(chosen: argparse.Namespace) -> int:
    """Compare means over the seeds with experiments/<preset>/expected.json, where there is one."""
    place = path_of(chosen.preset)
    if not place.exists():
        return 0
    expected = read(place)
    by_seed = [measure(expected, composed(seed, chosen).targets) for seed in chosen.seeds]
    return report(judge(expected, by_seed), chosen.seeds)


if __name__ == "__main__":
    sys.exit(main())
