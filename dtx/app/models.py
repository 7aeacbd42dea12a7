"""The models that the page offers: those of a store, and those that ship with dtx.

A request names a model by the beginning of a key or label, which is looked up here; no path ever comes from a
request.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from dtx.app.places import Place, of_environment
from dtx.app.training_data import TrainingData
from dtx.app.vocabulary import Vocabulary
from dtx.dataset.episodes import Episodes
from dtx.dt.model_config import ModelConfig
from dtx.errors import UserError
from dtx.exchange.environments import of_artefact
from dtx.exchange.lookup import kind_of, lineage
from dtx.exchange.origin import Origin
from dtx.running.roles import recorded_roles
from dtx.store.inventory import artefact, artefacts
from dtx.store.label import Label
from dtx.store.store import Store
from dtx.text import first_line, suggest

if TYPE_CHECKING:
    from dtx.agent.agent import Agent

AGENT = "agent:"
"""Before the name of a teacher in a scene."""
DT, CLONE, TEACHER, PLANTED, IMPORTED = "dt", "clone", "agent", "planted", "imported"
TOKENS = "tokens"
LOADED = 8
"""Models that a lane keeps loaded."""
_KEY = 8
"""Characters of a key that name a model in an address."""


@dataclass(frozen=True)
class Entry:
    """A model that can be chosen.

    Attributes:
        id: How a scene names it. label: Of the artefact. title: For people. kind: One of those above.
        folder: Its files. place: Where it acts; None if no record says so.
        data: Reads what it was trained on; None if that is not here.
        problem: Why it cannot be shown; empty if it can.
        copied: Copies a model that is in memory, for a lane; None: it is read from its folder.
        vocabulary: Of a model that reads text; None of one that acts in a world.
    """

    id: str
    label: str
    title: str
    kind: str
    folder: Path
    place: Place | None
    data: Callable[[], TrainingData] | None
    shape: ModelConfig | None
    checkpoints: Mapping[int, Path]
    problem: str = ""
    copied: Callable[[], Any] | None = None
    vocabulary: Vocabulary | None = None

    def about(self) -> dict[str, Any]:
        """What the page is told of it."""
        shape = self.shape or self.vocabulary
        return {
            "id": self.id,
            "label": self.label,
            "title": self.title,
            "kind": self.kind,
            "env": None if self.place is None else self.place.id,
            "checkpoints": sorted(self.checkpoints),
            "reward_to_go": None,
            "layers": shape and shape.n_layers,
            "heads": shape and shape.n_heads,
            "steps": shape and shape.n_steps,
            "problem": self.problem or None,
        }


@dataclass(frozen=True)
class Chosen:
    """A model as a scene names it: an entry, and the step of training, None for the last."""

    entry: Entry
    step: int | None

    @property
    def id(self) -> str:
        """As in a scene."""
        return self.entry.id + ("" if self.step is None else f"@{self.step}")


class Catalogue:
    """All models of a store and those given beside it; follows a store that changes.

    Args:
        store: None: only those given.
        config_dir: The user's own configs.
        others: Further entries: the model that ships, the planted one.
    """

    def __init__(
        self, store: Store | None, config_dir: Path | None = None, others: Iterable[Entry] = ()
    ):
        self.store, self.config_dir, self.others = store, config_dir, list(others)
        self._state: tuple[int, ...] | None = None
        self._entries: dict[str, Entry] = {}
        self._read: dict[str, Entry | None] = {}
        self._places: dict[str, Place | None] = {}
        self._data: dict[str, TrainingData] = {}
        self._lock = Lock()  # two lanes and the page's list ask at the same time

    def entries(self) -> list[Entry]:
        """All, the newest Decision Transformers first, then clones, others and teachers."""
        with self._lock:
            self._refresh()
            return list(self._entries.values())

    def places(self) -> dict[str, Place]:
        """Where the models act, by id."""
        found = {e.place.id: e.place for e in self.entries() if e.place is not None}
        return dict(sorted(found.items()))

    def choose(self, name: str) -> Chosen:
        """The model that a scene names.

        Raises:
            UserError: None is called so, several are, or no such checkpoint was kept.
        """
        bare, _, step = name.partition("@")
        entries = {entry.id: entry for entry in self.entries()}
        if bare in entries:
            return _at(entries[bare], step)
        teacher, wanted = bare.startswith(AGENT), bare.removeprefix(AGENT)
        fitting = [
            entry
            for entry in entries.values()
            if (entry.kind == TEACHER) == teacher
            and (
                entry.label.startswith(wanted)
                or (len(wanted) >= 4 and entry.label.rpartition("-")[2].startswith(wanted))
            )
        ]
        if len(fitting) != 1:
            why = f"may be {', '.join(e.id for e in fitting[:4])}" if fitting else "is none"
            raise UserError(f"models: {bare!r} {why}{suggest(bare, list(entries)[:6])}")
        return _at(fitting[0], step)

    def first(self) -> Chosen:
        """The model of the first page: the newest Decision Transformer that can be shown.

        Raises:
            UserError: There is none.
        """
        for entry in self.entries():
            if not entry.problem and entry.kind != TEACHER:
                return Chosen(entry, None)
        raise UserError("there is no model to show: `dtx run` trains one")

    def training_data(self, entry: Entry) -> TrainingData | None:
        """What a model was trained on, read once."""
        if entry.data is None:
            return None
        if entry.id not in self._data:
            try:
                self._data[entry.id] = entry.data()
            except UserError:  # demonstrations were removed or damaged meanwhile: go on without
                return None
        return self._data[entry.id]

    def _refresh(self) -> None:
        """Read the records of what is new in the store, forget what has gone."""
        state: tuple[int, ...] = ()
        if self.store is not None and self.store.root.is_dir():
            state = (self.store.root.stat().st_mtime_ns,)
        if state == self._state:
            return
        self._state = state
        found = [*self.others]
        if state:
            assert self.store is not None
            made = artefacts(self.store.root)
            roles = recorded_roles([(a.label, a.record) for a in made])
            for item in made:
                if item.label not in self._read:
                    self._read[item.label] = self._entry(item.label, item.record, roles)
            here = {item.label for item in made}
            kept = [self._read[label] for label in (i.label for i in made) if label in here]
            found = [entry for entry in kept if entry is not None] + found
        order = (DT, TOKENS, IMPORTED, CLONE, PLANTED, TEACHER)
        ranked = sorted(
            found, key=lambda e: (not e.title.startswith(KINDS[e.kind]), order.index(e.kind))
        )
        self._entries = {entry.id: entry for entry in ranked}

    def _entry(
        self, label: str, record: Mapping[str, Any], roles: Mapping[str, str]
    ) -> Entry | None:
        assert self.store is not None
        folder = self.store.root / label
        group = kind_of(folder)
        if group not in ("dt", "agent"):
            return None
        origin = Origin(folder, record, lineage(self.store, record), self.store, self.config_dir)
        problem, place, shape = "", None, None
        try:
            place = self._place(origin, label)
            if place is None:
                problem = "no record names its environment"
            if group == "dt":
                shape = ModelConfig.read(folder)
        except UserError as error:
            problem = first_line(error)
        kind = _kind(record, shape) if group == "dt" else TEACHER
        key = label.rpartition("-")[2][:_KEY]
        return Entry(
            id=(AGENT if kind == TEACHER else "") + key,
            label=label,
            title=_title(label, record, roles.get(label, ""), kind),
            kind=kind,
            folder=folder,
            place=place,
            data=self._reader(origin),
            shape=shape,
            checkpoints=checkpoints(folder),
            problem=problem,
        )

    def _place(self, origin: Origin, label: str) -> Place | None:
        """Where an artefact acts; models with the same recorded settings share what was composed once."""
        records = [origin.record, *origin.records.values()]
        marks = [(r.get("config", {}).get("env"), r.get("env_id")) for r in records]
        known = json.dumps(marks, default=str)
        if known not in self._places:
            env = of_artefact(origin, label)
            self._places[known] = None if env is None else of_environment(env, self.config_dir)
        return self._places[known]

    def _reader(self, origin: Origin) -> Callable[[], TrainingData] | None:
        """Reads the demonstrations that an artefact was made from, if they are in the store."""
        store = self.store
        assert store is not None
        for label in origin.records:
            if kind_of(store.root / label) == "dataset":
                return lambda: TrainingData.of(Episodes.read(store.artefact(Label(label))))
        return None


class Loader:
    """The models that one lane has loaded: hooks are attributes of a module, so lanes share none."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Any] = OrderedDict()

    def model(self, chosen: Chosen) -> Any:
        """A Decision Transformer or clone, or a model that reads text.

        Raises:
            UserError: Its files cannot be read.
        """
        from dtx.dt.model import load

        entry = chosen.entry
        if (copied := entry.copied) is not None and chosen.step is None:
            return self._loaded(chosen, copied)
        weights = None if chosen.step is None else entry.checkpoints[chosen.step]
        return self._loaded(chosen, lambda: load(entry.folder, weights).requires_grad_(False))

    def agent(self, chosen: Chosen) -> Agent:
        """A teacher; nothing is unpickled.

        Raises:
            UserError: Its files cannot be read.
        """
        from dtx.agent.agent_folder import load_agent

        return self._loaded(chosen, lambda: load_agent(chosen.entry.folder, False))

    def _loaded(self, chosen: Chosen, read: Callable[[], Any]) -> Any:
        if chosen.id not in self._kept:
            self._kept[chosen.id] = read()
            while len(self._kept) > LOADED:
                self._kept.popitem(last=False)
        self._kept.move_to_end(chosen.id)
        return self._kept[chosen.id]


def of_folder(
    folder: Path, id: str, title: str, place: Place, data: Callable[[], TrainingData] | None
) -> Entry:
    """An entry for a model outside a store: one that ships with dtx.

    Args:
        folder: With ``model.json`` and weights.
    """
    shape = ModelConfig.read(folder)
    record = artefact(folder).record if (folder / "done.json").is_file() else {}
    kind = _kind(record, shape)
    return Entry(id, id, title, kind, folder, place, data, shape, checkpoints(folder))


def checkpoints(folder: Path) -> dict[int, Path]:
    """Kept checkpoints by step."""
    files = (folder / "checkpoints").glob("step-*.safetensors")
    known = {re.fullmatch(r"step-(\d+)", path.stem): path for path in files}
    return {int(match[1]): path for match, path in known.items() if match is not None}


def renamed(entry: Entry, **changes: Any) -> Entry:
    """An entry with some attributes changed."""
    return dataclasses.replace(entry, **changes)


def _at(entry: Entry, step: str) -> Chosen:
    if not step:
        return Chosen(entry, None)
    if int(step) not in entry.checkpoints:
        kept = ", ".join(map(str, sorted(entry.checkpoints))) or "none"
        raise UserError(f"models: {entry.id} kept no checkpoint of step {step} (kept: {kept})")
    return Chosen(entry, int(step))


def _kind(record: Mapping[str, Any], shape: ModelConfig | None) -> str:
    stage = str(record.get("stage", ""))
    for kind in (PLANTED, IMPORTED):
        if stage.startswith(kind):
            return kind
    return CLONE if shape is not None and not shape.reward_to_go else DT


KINDS = {
    DT: "Decision Transformer",
    CLONE: "behaviour clone",
    TEACHER: "teacher",
    PLANTED: "planted model",
    IMPORTED: "imported model",
    TOKENS: "model of text",
}


def _title(label: str, record: Mapping[str, Any], role: str, kind: str) -> str:
    """``Decision Transformer 0643 · seed 200``; of a control its role: ``untrained 7e42 · seed 200``."""
    config = record.get("config", {})
    words = KINDS[kind]
    if kind == DT and role not in ("", "dt", "decision transformer", "model"):
        words = role
    if config.get("steps") == 0 and "untrained" not in words:
        words = f"untrained {words}"
    seed = config.get("seed")
    after = "" if seed is None else f" · seed {seed}"
    return f"{words} {label.rpartition('-')[2][:4]}{after}"
