"""Answer what the page asks: a scene and panels to data. An answer or one clear line comes out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dtx.app.address import address
from dtx.app.columns import Asked, AskedText, Column, asked_text, problem_in
from dtx.app.models import Catalogue, Chosen, Loader
from dtx.app.moment import Moment
from dtx.app.panels import DECISION, NEEDED, PAIR, REWARD_TO_GO, WORLD, Panel, found
from dtx.app.panels import policy as policy_panel
from dtx.app.places import Place, place
from dtx.app.play import play, shown
from dtx.app.prompt import Prompt
from dtx.app.scene import LETTERS, VERSION, Message, OpenPanel, Scene, read
from dtx.app.texts import command, pairs_file
from dtx.env.actions import ACTIONS
from dtx.errors import UserError
from dtx.text import first_line

POLICY = "policy"
"""The one panel that a teacher has too."""
AT_FIRST = 1.0
"""Reward-to-go where nothing is known of the training data."""


class Explorer:
    """Answers for all models of a catalogue; keeps nothing of who asks.

    Args:
        catalogue: The models.
        panels: A user's own folder of panels.
        dictionaries: Folders of sparse autoencoders in SAELens's format.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        panels: Path | None = None,
        dictionaries: Iterable[Path] = (),
    ):
        self.catalogue, self.panels = catalogue, found(panels)
        self.dictionaries = tuple(dictionaries)

    def about(self) -> dict[str, Any]:
        """All that can be chosen: models, environments, panels."""
        return {
            "version": VERSION,
            "engine": "server",
            "where": self._where(),
            "letters": LETTERS,
            "actions": list(ACTIONS),
            "models": [entry.about() for entry in self.catalogue.entries()],
            "envs": [known.about() for known in self.catalogue.places().values()],
            "panels": [panel.about() for panel in self.panels.values()],
            "needed": NEEDED,
        }

    def _where(self) -> str:
        """Where the models are from; of an empty store also what trains one."""
        store = self.catalogue.store
        if store is None:
            return "models that were given"
        if all(entry in self.catalogue.others for entry in self.catalogue.entries()):
            return f"store {store.root} has no model yet: `dtx run` trains one; these ship with dtx"
        return f"store {store.root}"

    def ask(
        self,
        raw: Any,
        panels: Sequence[OpenPanel],
        loader: Loader,
        stop: Callable[[], bool] = lambda: False,
    ) -> dict[str, Any]:
        """The answer to a scene and some panels.

        Args:
            raw: The scene as plain values.
            panels: Not long ones.
            loader: Of the lane that asks.
            stop: Whether nobody waits any more.

        Raises:
            UserError: There is no model, environment or world to show.
        """
        start = time.perf_counter()
        asked = self._read(raw)
        after_play = time.perf_counter()
        known = [self._known(panel, asked.messages) for panel in panels]
        columns = [self._answers(subject, asked, known, loader, stop) for subject in asked.subjects]
        answer = self._frame(asked)
        answer["panels"] = {
            panel.name: [column[i] for column in columns] for i, panel in enumerate(panels)
        }
        answer["ms"] = {
            "play": 1e3 * (after_play - start),
            "panels": 1e3 * (time.perf_counter() - after_play),
        }
        return answer

    def long(
        self, raw: Any, panel: OpenPanel, loader: Loader, stop: Callable[[], bool]
    ) -> Iterator[tuple[float, dict[str, Any]]]:
        """The answers to a long panel as its data grow: (share done, answer).

        Raises:
            UserError: As of :meth:`ask`.
        """
        asked = self._read(raw)
        found_panel, parameters, wrong = self._known(panel, asked.messages)
        cells: list[dict[str, Any]] = [{"waits": True} for _ in asked.subjects]
        frame = self._frame(asked)
        for i, subject in enumerate(asked.subjects):
            moment, reason = (None, wrong) if wrong else self._moment(subject, asked, loader, stop)
            if moment is None or found_panel is None:
                cells[i] = {"error": reason}
            elif missing := _missing(found_panel, moment):
                cells[i] = {"needs": missing, "error": NEEDED[missing]}
            else:
                try:
                    for share, data in found_panel.compute(moment, parameters):
                        cells[i] = {"data": data}
                        done = (i + share) / len(asked.subjects)
                        yield done, frame | {"panels": {panel.name: list(cells)}}
                        if stop():
                            return
                except UserError as error:
                    cells[i] = {"error": first_line(error)}
        yield 1.0, frame | {"panels": {panel.name: cells}}

    def text(self, raw: Any, what: str) -> str:
        """The scene in words.

        Args:
            raw: The scene as plain values.
            what: ``yaml``: its pairs file. ``command``: the one that computes an open panel's numbers again.
                ``address``, ``json``: itself.

        Raises:
            UserError: There are no such words of this scene.
        """
        if what == "address":
            return address(self._read(raw).scene)
        if what == "json":
            return json.dumps(self._read(raw).scene.json(), indent=1)
        asked = self.understood(raw)
        config_dir = self.catalogue.config_dir
        if what == "yaml":
            return pairs_file(asked.played, asked.contrast, config_dir)
        if what == "command":
            opened = asked.scene.panels or ()
            known = [p for p in opened if p.name in self.panels]
            causal = [p for p in known if self.panels[p.name].overrides(self._parameters(p))]
            chosen = next(iter([*causal, *known]), OpenPanel("patching"))
            entry = asked.subjects[0].chosen.entry
            return command(entry, self.panels.get(chosen.name), chosen, config_dir)
        raise UserError(f"no such words {what!r}; there are yaml, command, address, json")

    def _parameters(self, panel: OpenPanel) -> Any:
        return self._known(panel, [])[1]

    def understood(self, raw: Any) -> Asked:
        """A scene of plain values, with what was left open filled in, played.

        Raises:
            UserError: There is no model, environment or world to show.
        """
        asked = self._read(raw)
        if isinstance(asked, AskedText):
            raise UserError(
                "the scene is a text: there is no world in it, so no pairs file and no HTML file"
            )
        return asked

    def _read(self, raw: Any) -> Asked | AskedText:
        scene, told = read(raw)
        chosen = self._chosen(scene, told)
        if chosen[0].entry.vocabulary is not None:
            return asked_text(scene, chosen, told)
        where = self._place(scene, chosen[0], told)
        data = [self.catalogue.training_data(c.entry) for c in chosen]
        known = next((d.returns.highest for d in data if d is not None), AT_FIRST)
        scene = _with_known_world(scene, where, told)
        played = play(scene, where, known)
        subjects = [Column(c, d, problem_in(c, where)) for c, d in zip(chosen, data, strict=True)]
        contrast = _contrast(scene, where, told)
        scene = played.scene.replace(
            models=tuple(c.id for c in chosen),
            contrast=(where.actions[contrast[0]], where.actions[contrast[1]]),
        )
        return Asked(scene, told + list(played.messages), subjects, played, contrast)

    def moments(
        self, asked: Asked, loader: Loader, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Moment]:
        """A moment of every model of a scene that is no teacher and can be shown."""
        for subject in asked.subjects:
            moment, _ = self._moment(subject, asked, loader, stop)
            if isinstance(moment, Moment):
                yield moment

    def distances(self, asked: Asked) -> dict[str, np.ndarray] | None:
        """By side (t,): cells by which each state differs from the nearest one in the first model's training
        data; None if that is not here."""
        data = asked.subjects[0].data
        if data is None:
            return None
        sides = {"original": asked.played.original, "edited": asked.played.edited}
        return {
            name: data.distances(side.views) for name, side in sides.items() if side is not None
        }

    def _frame(self, asked: Asked | AskedText) -> dict[str, Any]:
        text = isinstance(asked, AskedText)
        return {
            "scene": asked.scene.json(),
            "messages": [message._asdict() for message in asked.messages],
            "play": asked.shown() if text else shown(asked.played, self.distances(asked)),
            "models": [subject.about() for subject in asked.subjects],
        }

    def _chosen(self, scene: Scene, told: list[Message]) -> list[Chosen]:
        chosen = []
        for name in scene.models:
            try:
                chosen.append(self.catalogue.choose(name))
            except UserError as error:
                told.append(Message("models", first_line(error).removeprefix("models: ")))
        return chosen or [self.catalogue.first()]

    def _place(self, scene: Scene, first: Chosen, told: list[Message]) -> Place:
        if scene.env:
            try:
                return place(scene.env, self.catalogue.config_dir)
            except UserError as error:
                told.append(Message("env", first_line(error)))
        if first.entry.place is None:
            raise UserError(f"{first.id}: {first.entry.problem}; name an environment: env=memory")
        return first.entry.place

    def _known(self, panel: OpenPanel, told: list[Message]) -> tuple[Panel | None, Any, str]:
        """A panel with its parameters; the last is why it cannot be shown."""
        known = self.panels.get(panel.name)
        if known is None:
            return None, None, f"there is no panel {panel.name!r}"
        try:
            return known, known.parameters(panel.parameters), ""
        except UserError as error:
            told.append(Message(f"panels.{panel.name}", first_line(error)))
            return known, known.parameters({}), ""

    def _moment(
        self, subject: Column, asked: Asked | AskedText, loader: Loader, stop: Callable[[], bool]
    ) -> tuple[Moment | Prompt | None, str]:
        if subject.problem:
            return None, subject.problem
        if subject.is_teacher:
            return None, "a teacher has its policy to show, nothing of what is inside"
        try:
            model = loader.model(subject.chosen)
            if isinstance(asked, AskedText):
                return Prompt(model, asked.prompts[subject.chosen.id], asked.scene, stop), ""
            moment = Moment.of(
                model,
                asked.played,
                asked.contrast,
                subject.data,
                stop,
                chosen=subject.chosen,
                store=self.catalogue.store,
                dictionaries=self.dictionaries,
            )
            return moment, ""
        except UserError as error:
            return None, first_line(error)

    def _answers(
        self,
        subject: Column,
        asked: Asked | AskedText,
        panels: Iterable[tuple[Panel | None, Any, str]],
        loader: Loader,
        stop: Callable[[], bool],
    ) -> list[dict[str, Any]]:
        """One answer a panel."""
        panels = list(panels)
        moment, reason = self._moment(subject, asked, loader, stop)
        if moment is not None:
            for panel, _, _ in panels:
                if panel is not None and not _missing(panel, moment):
                    moment.want(panel.hooks(moment.cfg))
        answers: list[dict[str, Any]] = []
        for panel, parameters, wrong in panels:
            if wrong or panel is None:
                answers.append({"error": wrong})
            elif moment is None and not (panel.name == POLICY and subject.is_teacher):
                answers.append({"error": reason})
            elif moment is not None and (missing := _missing(panel, moment)):
                answers.append({"needs": missing, "error": NEEDED[missing]})
            else:
                try:
                    data = (
                        _of_teacher(loader, subject, asked)
                        if moment is None and isinstance(asked, Asked)
                        else panel.compute(moment, parameters)
                    )
                    answers.append({"data": data})
                except UserError as error:
                    answers.append({"error": first_line(error)})
        return answers


def _with_known_world(scene: Scene, where: Place, told: list[Message]) -> Scene:
    try:
        return scene.replace(world=where.known(scene.world))
    except UserError as error:
        told.append(Message("world", first_line(error).removeprefix("world: ")))
        return scene.replace(world=where.known(""))


def _contrast(scene: Scene, where: Place, told: list[Message]) -> tuple[int, int]:
    names = scene.contrast
    if names is not None and not set(names) <= set(where.actions):
        told.append(Message("contrast", f"{where.id} has {', '.join(where.actions)}"))
        names = None
    positive, negative = names or where.declared.contrast
    return where.actions.index(positive), where.actions.index(negative)


def _missing(panel: Panel, moment: Moment | Prompt) -> str:
    """The first need of a panel that is not met; empty if all are."""
    met = {
        PAIR: moment.edited is not None,
        REWARD_TO_GO: moment.cfg.reward_to_go,
        DECISION: moment.has_decision,
        WORLD: moment.has_world,
    }
    return next((need for need in panel.module.NEEDS if not met[need]), "")


def _of_teacher(loader: Loader, subject: Column, asked: Asked) -> dict[str, Any]:
    """The policy panel's data of a teacher: it acts from what it saw up to the cursor."""
    agent = loader.agent(subject.chosen)
    step = asked.played.cursor
    logits, values = {}, {}
    for name, side in (("original", asked.played.original), ("edited", asked.played.edited)):
        if side is None or side.states < step:
            continue
        memory = agent.initial_memory(1)
        with torch.no_grad():
            for view in side.views[:step]:
                logits_1a, value, memory = agent.step(view[None], memory)
        logits[name], values[name] = logits_1a[0], float(value[0])
    described = policy_panel.described(logits, asked.contrast, asked.played.place.actions)
    return described | {"gap": asked.played.place.declared.gap, "value": values["original"]}
