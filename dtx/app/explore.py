"""Open the explorer on models in memory, from Python: ``dtx.explore``."""

from __future__ import annotations

import copy
import html
import logging
import re
import secrets
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import uvicorn

from dtx.app.address import address, parse
from dtx.app.asked import Explorer
from dtx.app.engine import Engine
from dtx.app.models import CLONE, DT, TOKENS, Catalogue, Entry
from dtx.app.page_files import files
from dtx.app.places import Place, of_environment
from dtx.app.scene import MOST_MODELS
from dtx.app.server import Server
from dtx.app.training_data import TrainingData
from dtx.app.vocabulary import Vocabulary, reads_text
from dtx.dt.model import DecisionTransformerModel
from dtx.env.environment import Environment
from dtx.errors import UserError
from dtx.exchange.environments import of_artefact, of_config
from dtx.exchange.model_handle import LoadedModel
from dtx.serving import LOOPBACK, listen_near

HEIGHT = 900
"""Pixels of the page in a notebook."""


class Opened:
    """A page that is served until it is closed, or this process ends.

    Attributes:
        explorer: Answers the page.
        url: Of the page, for a browser on this machine. It holds the token that the server wants.
    """

    def __init__(self, explorer: Explorer, fragment: str):
        self.explorer = explorer
        self._token, self._fragment = secrets.token_urlsafe(24), fragment.removeprefix("#")
        panels = explorer.panels.values()
        self._server = Server(
            lambda: Engine(explorer),
            {panel.name: panel.when for panel in panels},
            files(panel.script for panel in panels),
            token=self._token,
        )
        self._listening = listen_near(LOOPBACK, 0, "app")
        self._port = self._listening.getsockname()[1]
        config = uvicorn.Config(
            self._server.application,
            log_level=logging.WARNING,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        self._served = uvicorn.Server(config)
        run = self._served.run
        self._thread = threading.Thread(
            target=run, args=[[self._listening]], name="explorer", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """Of the page."""
        return self._url("")

    def close(self) -> None:
        """End the server and forget the models; the page says that it is gone."""
        self._served.should_exit = True
        self._server.close()
        self._thread.join()
        self._listening.close()

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"explorer: {self.url}"

    def _repr_html_(self) -> str:
        """The page in a notebook."""
        source = html.escape(self._url(f"?frame={self._token}"))
        style = f"width: 100%; height: {HEIGHT}px; border: 1px solid"
        return f'<iframe src="{source}" style="{style}" title="dtx explorer"></iframe>'

    def _url(self, query: str) -> str:
        return f"http://{LOOPBACK}:{self._port}/{query}#token={self._token}&{self._fragment}"


def explore(
    *models: Any,
    env: Environment | str | None = None,
    scene: str = "",
    text: str = "",
    edited_text: str = "",
) -> Opened:
    """Open the explorer; see :func:`dtx.explore`."""
    if not 1 <= len(models) <= MOST_MODELS:
        raise UserError(f"explore: give one to {MOST_MODELS} models, not {len(models)}")
    entries: list[Entry] = []
    for model in models:
        entries.append(entry(model, env, [entry.id for entry in entries]))
    shown, told = parse(scene)
    for part, problem in told:
        raise UserError(f"explore: scene: {part}: {problem}")
    shown = shown.replace(
        models=tuple(entry.id for entry in entries),
        text=text or shown.text,
        edited_text=edited_text or shown.edited_text,
    )
    return Opened(Explorer(Catalogue(None, others=entries)), address(shown))


def entry(model: Any, env: Environment | str | None, taken: Sequence[str]) -> Entry:
    """A model in memory as an entry of the catalogue, named unlike those that are taken.

    Raises:
        UserError: It is no model, or its environment is not known.
    """
    if isinstance(model, LoadedModel):
        return _loaded(model, env, taken)
    if isinstance(model, DecisionTransformerModel):
        if env is None:
            raise UserError("explore: name the environment that the model acts in: env='memory'")
        name = _free("model", taken)
        return _acting(name, name, model, _place(env), None, {}, Path())
    if reads_text(model):
        name = _free("model", taken)
        title = vars(model.cfg).get("model_name") or type(model).__name__
        vocabulary = Vocabulary(model)
        return Entry(
            name, name, title, TOKENS, Path(), None, None, None, {},
            copied=_copier(model), vocabulary=vocabulary,
        )  # fmt: skip
    raise UserError(
        f"explore: {type(model).__name__} is no model that dtx.load gives, no DecisionTransformerModel and "
        "none of TransformerLens's that read tokens (with to_tokens and run_with_cache)"
    )


def _loaded(handle: LoadedModel, env: Environment | str | None, taken: Sequence[str]) -> Entry:
    label = handle.label
    own = of_artefact(handle.origin, label) if env is None else env
    if own is None:
        raise UserError(f"explore: no record of {label} names its environment: env='memory'")
    name = _free(re.sub(r"[^A-Za-z0-9]", "", label.rpartition("-")[2])[:8] or "model", taken)
    return _acting(
        name,
        label,
        handle.model,
        _place(own),
        lambda: TrainingData.of(handle.episodes),
        handle.checkpoints(),
        handle.folder,
    )


def _acting(
    name: str,
    label: str,
    model: DecisionTransformerModel,
    place: Place,
    data: Callable[[], TrainingData] | None,
    checkpoints: dict[int, Path],
    folder: Path,
) -> Entry:
    kind = DT if model.cfg.reward_to_go else CLONE
    return Entry(
        name, label, label, kind, folder, place, data, model.cfg, checkpoints, copied=_copier(model)
    )


def _place(env: Environment | str) -> Place:
    return of_environment(of_config(env, None) if isinstance(env, str) else env)


def _copier(model: Any) -> Callable[[], Any]:
    """Copies a model for a lane, whose hooks no other lane may see: on the CPU, in float32, without hooks."""

    def copied() -> Any:
        with torch.no_grad():
            own = copy.deepcopy(model).float().eval()
            if any(parameter.device.type != "cpu" for parameter in own.parameters()):
                own = (
                    own.cpu()
                )  # TransformerLens prints that it moves a model, even where it need not
        own.requires_grad_(False)
        own.reset_hooks()
        return own

    return copied


def _free(name: str, taken: Sequence[str]) -> str:
    return name if name not in taken else f"{name}{len(taken) + 1}"
