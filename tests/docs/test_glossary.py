"""The glossary holds the words that commands print: headers, roles, statuses, headline metrics."""

import functools
import re
from pathlib import Path

import pytest

from dtx.analysis.core.listing import built_in
from dtx.config.compose import compose, experiment
from dtx.config.options import options
from dtx.running.plan import stages
from dtx.running.roles import roles
from dtx.stage import Stage
from dtx.verbs import plan, run, status

PAGE = (Path(__file__).parents[2] / "docs/glossary.md").read_text()
ROWS = [line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("| ")]
WORDS = {
    re.sub(r" \(.*\)$", "", word.strip())
    for row in ROWS
    for word in re.split(r",(?![^(]*\))", row[0])
}
METRICS = set(re.findall(r"`([^`]+)`", PAGE[PAGE.index("## Headline metrics") :]))
STUDIES = [
    [],
    ["experiment=quickstart"],
    ["experiment=memory_dt_claims"],
    ["target=pairs"],
    ["target=activations"],
    ["target=dictionary"],
]


@functools.cache
def classes() -> dict[str, type[Stage]]:
    """Every kind of stage that a preset or an option of dtx's makes."""
    found = dict(built_in())
    overrides = [["analysis=[report,calibration]"], ["analysis=[features]"]]
    overrides += [
        [f"agent={o.name}", "target=agent", "agent.digest=" + "0" * 64]
        if o.name in ("imported", "sb3")
        else [f"agent={o.name}", "target=agent"]
        for o in options(None)["agent"]
    ]
    overrides += [
        [f"dt={name}", "target=dt"] for name in ("planted", "planted_facts", "interchange")
    ]
    overrides += [["dt=imported", "target=dt", "dt.digest=" + "0" * 64]]
    overrides += [["analysis=[labels]"]]  # untrained networks are stages that it derives
    for words in [*overrides, *STUDIES]:
        for stage in stages(experiment(compose(words)).targets.values()):
            found[f"{type(stage).__module__}.{type(stage).__name__}"] = type(stage)
    return found


def test_headers_of_tables_are_explained():
    assert sorted({*plan.HEADER, *run.HEADER, *status.HEADER} - WORDS) == []


@pytest.mark.parametrize("overrides", STUDIES)
def test_roles_are_explained_or_are_the_names_of_analyses(overrides):
    known = WORDS | {name.replace("_", " ") for name in built_in()}
    names = roles(experiment(compose(overrides)).targets).values()
    plain = {re.sub(r" [0-9a-f]{6}$", "", name) for name in names}
    assert sorted(plain - known) == []


def test_actions_and_statuses_are_explained():
    """As the docstrings of the two classes list them."""
    from dtx.running.outcome import StageOutcome
    from dtx.running.plan import PlannedStage

    for kind, field in ((PlannedStage, "action"), (StageOutcome, "status")):
        text = re.search(rf"{field}: (.*?)\n\s+\w+: ", kind.__doc__ or "", re.S)
        assert text is not None
        words = re.findall(r"``([\w ]+)``", text[1])
        row = next(row for row in ROWS if row[0].strip() == field)
        assert len(words) > 3 and [w for w in words if f"*{w}*" not in row[1]] == []


def test_every_headline_metric_is_explained():
    missing = {
        name: [m for m in kind.headline if m not in METRICS] for name, kind in classes().items()
    }
    assert {name: metrics for name, metrics in missing.items() if metrics} == {}


def test_the_glossary_explains_no_metric_that_is_gone():
    declared = {m for kind in classes().values() for m in kind.headline}
    of_the_text = {"dtx compare", "calibration/success_high", "*"}
    assert sorted(METRICS - declared - of_the_text) == []


def test_every_kind_of_stage_declares_a_headline():
    assert [name for name, kind in classes().items() if not kind.headline] == []
