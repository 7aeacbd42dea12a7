"""The card of an exported model: Markdown under YAML front matter, as Hugging Face reads it.

Source: the model card's metadata, https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dtx.exchange.handover import Handover, Reading

_KINDS = {"dt": "Decision Transformer", "agent": "actor-critic agent"}

_DTX = {
    "dt": """\
import dtx

dt = dtx.load("dt", path="THIS FOLDER")
logits, cache = dt.run_with_cache(dt.decisions(reward_to_go=0.9))  # cache["pattern", 0]
dt.rollout(reward_to_go=[0, 0.9], episodes=50)
dt.pairs()""",
    "agent": """\
import dtx

agent = dtx.load("agent", path="THIS FOLDER").agent
logits, value, memory = agent.step(observations, agent.initial_memory(len(observations)))""",
}

_WEIGHTS = """\
from safetensors.torch import load_file

weights = load_file("weights.safetensors")  # names to tensors"""

_PLAIN = f"""\
import json
{_WEIGHTS}
sizes = json.load(open("model.json"))"""

_LAYOUT = """\
Tokens are (R, S, A) for each timestep, without the last A (a behaviour clone has no R). A token is its
content's embedding (`embed.W_R` times the value, the flattened one-hot observation times `embed.W_S` plus
`embed.b_S` if there, or a row of `embed.W_A`) plus a row of `embed.W_time` (if the time embedding is linear:
the timestep times it) plus, if there, a row of `pos_embed.W_pos`. Blocks are pre-LayerNorm (epsilon 1e-5),
the weights in TransformerLens's layout: `W_Q`, `W_K`, `W_V` (head, d_model, d_head), `W_O` (head, d_head,
d_model). Logits are `ln_final(residual) @ unembed.W_U + unembed.b_U` at the S tokens."""


def card(what: Handover) -> str:
    """The text of ``README.md``."""
    return "\n".join([*_front_matter(what), *_body(what)]) + "\n"


def _front_matter(what: Handover) -> Iterator[str]:
    import yaml

    results = [
        {
            "task": {"type": "reinforcement-learning", "name": "reinforcement learning"},
            "dataset": {
                "name": _environment(what) or "unknown",
                "type": _environment(what) or "unknown",
            },
            "metrics": [
                {"type": name, "value": value, "name": name}
                for name, value in numbers.items()
                if _finite(value)
            ],
        }
        for numbers in [what.headline, *(r.headline for r in what.readings)]
    ]
    results = [r for r in results if r["metrics"]]
    values: dict[str, Any] = {
        "license": what.licence,
        "library_name": "dtx",
        "pipeline_tag": "reinforcement-learning",
        "tags": _tags(what),
    }
    if results:
        values["model-index"] = [{"name": what.label, "results": results}]
    yield "---"
    yield yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100).rstrip()
    yield "---"


def _tags(what: Handover) -> list[str]:
    tags = ["dtx", "minigrid", "reinforcement-learning"]
    if what.kind == "dt":
        clone = not what.description.get("reward_to_go", True)
        tags += [
            "behaviour-cloning" if clone else "decision-transformer",
            "mechanistic-interpretability",
        ]
    return tags


def _body(what: Handover) -> Iterator[str]:
    kind = _KINDS[what.kind]
    if what.kind == "dt" and not what.description.get("reward_to_go", True):
        kind = "behaviour clone (a Decision Transformer without reward-to-go)"
    if what.kind == "agent" and _remembers(what):
        kind = f"recurrent {kind}"
    yield f"# {what.label}"
    yield ""
    env = _environment(what)
    place, stage = f" for {env}" if env else "", what.known.get("stage", "?")
    article = "An" if kind[0] in "aeiou" else "A"
    yield f"{article} {kind}{place}, made by the stage `{stage}` of dtx."
    if what.licence == "unknown":
        yield "\nNo licence was named."
    yield "\n## Load it\n"
    yield f"With dtx:\n\n```python\n{_DTX[what.kind]}\n```\n"
    plain = _PLAIN if what.description else _WEIGHTS
    yield f"Without dtx, safetensors and torch are enough:\n\n```python\n{plain}\n```"
    if what.kind == "dt":
        yield f"\n{_LAYOUT}"
    if what.description:
        yield "\n## Model\n"
        yield from _table(["setting", "value"], what.description.items())
    yield "\n## Settings of the stage\n"
    yield from _table(["field", "value"], _flat(what.known.get("config", {})))
    yield from _measured(what)
    yield from _lineage(what)


def _remembers(what: Handover) -> bool:
    """Whether an agent has a memory: by its numbers, if they say so; dtx's own agents have one."""
    recorded = [v for k, v in what.headline.items() if k.endswith("/recurrent")]
    return bool(recorded[0]) if recorded else True


def _measured(what: Handover) -> Iterator[str]:
    if what.headline:
        yield "\n## Its own numbers\n"
        yield from _table(["metric", "value"], what.headline.items())
    subjects = [r for r in what.readings if r.headline or r.figures or r.result]
    for reading in subjects:
        yield f"\n## {reading.label.rpartition('-')[0].replace('_', ' ')}\n"
        yield f"`{reading.label}`\n"
        yield from _reading(reading)
    others = [f"`{r.label}` (as `{r.role}`)" for r in what.readings if r not in subjects]
    others += [f"`{label}`" for label in what.uses]
    if others:
        yield f"\nAlso read by {', '.join(others)}."


def _reading(reading: Reading) -> Iterator[str]:
    result = reading.result
    if result is not None:
        if result.established:
            yield f"{result.finding}\n"
        else:
            yield f"**Not established**: {'; '.join(result.reasons())}.\n"
        if result.claims:
            yield from _table(
                ["claim", "criterion", "evidence", "verdict"],
                [(c.text, c.criterion, c.evidence, c.verdict.value) for c in result.claims],
            )
            yield ""
    if reading.headline:
        yield from _table(["metric", "value"], reading.headline.items())
    for name in reading.figures:
        yield f"\n![{name}](figures/{name})"


def _lineage(what: Handover) -> Iterator[str]:
    yield "\n## Where it comes from\n"
    records = {what.label: what.known, **what.known.get("records", {})}
    rows = []
    for label, record in records.items():
        git = record.get("git") or {}
        changed = " with changes" if git.get("uncommitted_changes") else ""
        sha = f"{(git.get('sha') or 'unknown')[:12]}{changed}"
        inputs = ", ".join(f"{field}: `{name}`" for field, name in record.get("inputs", {}).items())
        packages = record.get("packages", {})
        rows.append(
            (
                f"`{label}`",
                inputs or "-",
                sha,
                packages.get("dtx", "-"),
                record.get("finished", "-"),
            )
        )
    yield from _table(["artefact", "made from", "git commit", "dtx", "finished"], rows)
    yield "\n`lineage.json` holds the settings of each. Equal settings give equal keys in dtx, so the"
    yield "same artefacts can be found in a store, or made again."
    packages = what.known.get("packages", {})
    if packages:
        versions = ", ".join(f"{name} {version}" for name, version in packages.items())
        yield f"\nMade with Python {what.known.get('python', '?')}, {versions}."


def _environment(what: Handover) -> str | None:
    records = [what.known, *what.known.get("records", {}).values()]
    for record in records:
        if record.get("env_id"):
            return record["env_id"]
    for record in records:
        env = record.get("config", {}).get("env")
        if isinstance(env, dict):
            return str(env["id"]) if "id" in env else None
    return None


def _flat(values: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{place}{name}.")
        else:
            yield f"{place}{name}", value


def _table(head: list[str], rows: Iterable[Iterable[Any]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(_cell(value) for value in row)} |"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        value = f"{value:.0f}" if value.is_integer() else f"{value:.4g}"
    elif value is None or value == {}:
        value = "none"
    return str(value).replace("|", "\\|").replace("\n", " ")


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
