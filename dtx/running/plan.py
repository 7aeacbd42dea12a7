"""Which stages an experiment needs, which of them are missing, and why. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dtx.config.compose import OnDrift
from dtx.config.ranges import problems
from dtx.dataset.dataset import Dataset
from dtx.errors import UserError
from dtx.files import read_json
from dtx.progress import duration
from dtx.running import drift, room
from dtx.running.speed import relative_speed
from dtx.stage import TARGET, Stage, is_runtime
from dtx.store.checksums import check_record
from dtx.store.store import DONE, Store

_SHOWN = 4  # changed fields named in a reason


@dataclasses.dataclass
class PlannedStage:
    """What a run would do with one stage.

    Attributes:
        action: ``run``, ``reuse``, ``pull`` (the remote store has it), or ``not needed`` (what depends on
            it is done).
        why: The reason to run it, or a warning about the reused artefact; can be empty.
        seconds: Estimated from earlier runs, or from reference timings; None if neither says anything.
        ran_before: Whether earlier runs say it.
    """

    stage: Stage
    action: str
    why: str = ""
    seconds: float | None = None
    ran_before: bool = False


def stages(targets: Iterable[Stage]) -> list[Stage]:
    """All stages that the targets need, inputs first, each once."""
    ordered: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        if stage.label not in ordered:
            for parent in stage.inputs().values():
                visit(parent)
            ordered[stage.label] = stage

    for target in targets:
        visit(target)
    return list(ordered.values())


def missing(targets: Iterable[Stage], store: Store, again: Iterable[str] = ()) -> list[Stage]:
    """The stages to run, inputs first; the inputs of a committed stage are not needed.

    Args:
        targets: The stages that are wanted.
        store: Where committed stages are looked for.
        again: Labels of committed stages to make again, with all stages that read them.
    """
    targets, again = list(targets), set(again)
    if again:  # what reads a stage that is made again is made again
        for stage in stages(targets):
            if any(s.label in again for s in stage.inputs().values()):
                again.add(stage.label)
    todo: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        if stage.label in todo or (store.has(stage) and stage.label not in again):
            return
        for parent in stage.inputs().values():
            visit(parent)
        todo[stage.label] = stage

    for target in targets:
        visit(target)
    return list(todo.values())


def drifted(everything: Iterable[Stage], store: Store) -> dict[str, list[str]]:
    """Committed stages whose source code has changed since: label to changed files."""
    changed = {}
    for stage in everything:
        if store.where(stage) == "local":
            source = store.done(stage).get("source", {})
            if files := drift.changed(stage, source):
                changed[stage.label] = files
    return changed


def to_run_again(everything: list[Stage], store: Store, on_drift: OnDrift) -> dict[str, list[str]]:
    """The drifted stages that are to be made again.

    Raises:
        UserError: ``on_drift=fail`` and there are some.
    """
    changed = {} if on_drift is OnDrift.WARN else drifted(everything, store)
    if changed and on_drift is OnDrift.FAIL:
        lines = [f"{label}: the code changed since: {', '.join(f)}" for label, f in changed.items()]
        raise UserError(
            "\n".join(lines) + "\non_drift=fail: nothing was run; "
            "on_drift=rerun makes them again, on_drift=warn uses them as they are"
        )
    return changed


def plan(
    targets: Iterable[Stage], store: Store, on_drift: OnDrift = OnDrift.WARN
) -> list[PlannedStage]:
    """What a run would do with every stage, inputs first, and why."""
    targets = list(targets)
    everything = stages(targets)
    changed = drifted(everything, store)
    again = changed if on_drift is OnDrift.RERUN else {}
    todo = missing(targets, store, again)
    labels, read = {s.label for s in todo}, read_by(targets, todo)
    known = Records(store)
    return [
        _to_run(stage, changed.get(stage.label, []), store, known)
        if stage.label in labels
        else _there(stage, changed.get(stage.label, []), stage.label in read, store)
        for stage in everything
    ]


def read_by(targets: Iterable[Stage], todo: Iterable[Stage]) -> set[str]:
    """Labels of the stages that a run reads: the inputs of the stages to run, and the targets."""
    return {s.label for t in todo for s in t.inputs().values()} | {t.label for t in targets}


def _there(stage: Stage, changed: list[str], read: bool, store: Store) -> PlannedStage:
    place = store.where(stage)
    action = "reuse" if place == "local" else "pull" if place and read else "not needed"
    return PlannedStage(stage, action, f"code changed: {', '.join(changed)}" if changed else "")


def _to_run(stage: Stage, changed: list[str], store: Store, known: Records) -> PlannedStage:
    nearest = known.nearest(stage)
    seconds = _seconds(stage, nearest)
    if changed:
        why = f"code changed: {', '.join(changed)}"
    elif store.has(stage):
        why = "an input is made again"
    elif store.earlier_seconds(stage):
        why = "goes on where it was interrupted"
        if seconds is not None:
            seconds = max(0.0, seconds - store.earlier_seconds(stage))
    elif stage.label in known.set_aside:
        why = "forced: set aside by `dtx invalidate`"
    else:
        why = _difference(stage, nearest) if nearest else "new"
    why = "; ".join(filter(None, (why, stage.remark())))
    return PlannedStage(stage, "run", why, seconds, nearest is not None)


def _seconds(stage: Stage, nearest: Mapping[str, Any] | None) -> float | None:
    """How long a stage will take: as long as the nearest record, times how much more there is to do.

    Without a record: its reference timing, scaled to this machine's speed.
    """
    expected = stage.resources().seconds
    if nearest is None:
        return expected / relative_speed() if expected else None
    seconds = float(nearest["seconds"])
    before = _expected_before(nearest)
    if (
        before is None
    ):  # an older record: then sizes that are out of all proportion count all the same
        return max(seconds, expected / 10)
    return seconds * expected / before if before else seconds


def _expected_before(record: Mapping[str, Any]) -> float | None:
    estimate = record.get("estimate")
    seconds = estimate.get("seconds") if isinstance(estimate, Mapping) else None
    return float(seconds) if isinstance(seconds, (int, float)) else None


class Records:
    """The ``done.json`` of a store, for comparison with what is to be run."""

    def __init__(self, store: Store):
        self.store = store
        trash = store.root / ".invalid"
        names = [p.name for p in trash.iterdir()] if trash.is_dir() else []
        self.set_aside = {name.rpartition(".")[0] for name in names}

    @functools.cache  # noqa: B019 - lives as long as one plan
    def _of(self, name: str) -> list[tuple[frozenset, dict[str, Any]]]:
        records = []
        for path in sorted(self.store.root.glob(f"{name}-*/{DONE}")):
            try:
                record = check_record(read_json(path))
                if not {"class", "finished", "inputs", "version"} <= record.keys():
                    continue
                records.append((frozenset(_flat(record["config"])), record))
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue  # the store reports a corrupt record when it is used
        return sorted(records, key=lambda r: r[1]["finished"], reverse=True)

    def nearest(self, stage: Stage) -> dict[str, Any] | None:
        """The record of the same stage whose config differs in the fewest fields; the newest of equals."""
        config = frozenset(_flat(stage.config()))
        same = [r for r in self._of(stage.name) if r[1]["class"].endswith(type(stage).__name__)]
        if not same:
            return None
        return min(same, key=lambda r: len(config ^ r[0]))[1]


def _difference(stage: Stage, record: Mapping[str, Any]) -> str:
    """``config changed: episodes 100 -> 200; input changed: agent``."""
    before, now = dict(_flat(record["config"])), dict(_flat(stage.config()))
    before.update(_unnamed(stage, record["config"]))
    _compare_classes(before, now)
    inputs, runtime = stage.inputs().keys(), set(_runtime(stage))
    names = [n for n in now if before.get(n) != now[n] and n not in runtime]
    names += [n for n in before if n not in now and n not in runtime]
    fields = [n for n in names if n not in inputs and n not in record["inputs"]]
    reasons = [f"version {record['version']} -> {stage.version}"] * (
        record["version"] != stage.version
    )
    if fields:
        absent = "(none)"
        changes = [f"{n} {before.get(n, absent)} -> {now.get(n, absent)}" for n in fields[:_SHOWN]]
        more = [f"{len(fields) - _SHOWN} more"] * (len(fields) > _SHOWN)
        reasons.append(f"config changed: {', '.join(changes + more)}")
    changed = [n for n in names if n in inputs]
    if changed:
        reasons.append(f"input changed: {', '.join(changed)}")
    return "; ".join(reasons) or "new"


def _unnamed(stage: Stage, recorded: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Values of another class than the stage's, in a record of before records named classes."""
    config = stage.config()
    for field in dataclasses.fields(stage):
        value, before = getattr(stage, field.name), recorded.get(field.name)
        now = config[field.name]
        if not (isinstance(now, Mapping) and TARGET in now and isinstance(before, Mapping)):
            continue
        if TARGET not in before and not _may_be(value, before):
            yield f"{field.name}.{TARGET}", "(another)"


def _may_be(value: Any, recorded: Mapping[str, Any]) -> bool:
    """Whether recorded fields can be those of an object of a value's class."""
    if recorded.keys() != {f.name for f in dataclasses.fields(value)}:
        return False
    numbers = {name: v for name, v in recorded.items() if isinstance(v, (int, float))}
    other = dataclasses.replace(value, **numbers)
    own = other.check() if "check" in dir(type(value)) else ()
    return not any((*problems(other), *own))


def _compare_classes(before: dict[str, str], now: dict[str, str]) -> None:
    """Show a value of another class as one change, ``env Memory -> DoorKey``, in the place of its fields.

    A class that only one side names is no difference: earlier records named none.
    """
    for place in {n for n in (*before, *now) if n.rpartition(".")[2] == TARGET}:
        value = place.rpartition(".")[0]
        one, other = before.pop(place, None), now.pop(place, None)
        if one is None or other is None or one == other:
            continue
        names = [name.rpartition(".")[2] for name in (one, other)]
        for side, full, short in zip((before, now), (one, other), names, strict=True):
            for field in [n for n in side if n.startswith(f"{value}.")]:
                del side[field]
            side[value] = full if len(set(names)) == 1 else short


def _flat(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{place}.{name}" if place else str(name))
    elif isinstance(value, (list, tuple)) and value:
        for i, inner in enumerate(value):
            yield from _flat(inner, f"{place}[{i}]")
    else:
        whole = isinstance(value, float) and value.is_integer()
        yield place, str(int(value) if whole else value)


def _runtime(value: Any, place: str = "") -> Iterator[str]:
    """Places of the fields that are not part of the key."""
    for field in dataclasses.fields(value):
        inner, name = getattr(value, field.name), f"{place}{field.name}"
        if is_runtime(field):
            yield from (n for n, _ in _flat(_as_plain(inner), name))
        elif dataclasses.is_dataclass(inner) and not isinstance(inner, Stage):
            yield from _runtime(inner, f"{name}.")


def _as_plain(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value


def group(stage: Stage) -> str:
    """What kind of thing a stage is: agent, dataset, dt, analysis; a user's own: its name."""
    if isinstance(stage, Dataset):  # one that a model plays is defined above the model
        return "dataset"
    parts = type(stage).__module__.split(".")
    return parts[1] if parts[0] == "dtx" and len(parts) > 2 else stage.name


def in_one_line(steps: Iterable[PlannedStage]) -> str:
    """One line: ``1 agent reused, 1 dataset to run (config changed: episodes 100 -> 200), 5 dt to run``."""
    counted: dict[tuple[str, str], list[PlannedStage]] = {}
    for step in steps:
        if step.action != "not needed":
            counted.setdefault((group(step.stage), step.action), []).append(step)
    words = {"run": "to run", "reuse": "reused", "pull": "to pull"}
    parts = []
    for (kind, action), some in counted.items():
        reasons = {s.why for s in some}
        reason = (
            f" ({reasons.pop()})"
            if action == "run" and len(reasons) == 1 and "" not in reasons
            else ""
        )
        parts.append(f"{len(some)} {kind} {words[action]}{reason}")
    return ", ".join(parts)


def estimate(steps: Iterable[PlannedStage]) -> str:
    """What the stages to run will take, one after another: time, memory and disk."""
    to_run = [s for s in steps if s.action == "run"]
    known = [s for s in to_run if s.seconds is not None]
    if not to_run:
        return "nothing to run"
    if not known:
        return "no estimate: these stages have neither run here nor a reference timing"
    rest = "" if len(known) == len(to_run) else f" for {len(known)} of {len(to_run)} stages"
    ran = {s.ran_before for s in known}
    scaled = f"reference timings, this machine being {relative_speed():.1f} times as fast as theirs"
    by = " and ".join(["earlier runs here"] * (True in ran) + [scaled] * (False in ran))
    seconds = sum(s.seconds for s in known if s.seconds is not None)
    work = f"about {duration(seconds)} of work on one core{rest}, estimated from {by}"
    return "; ".join(
        filter(None, [work, room.too_long(seconds), room.in_words([s.stage for s in to_run])])
    )
