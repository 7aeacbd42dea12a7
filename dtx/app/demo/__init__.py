"""Two models that need no store: a trained one that ships with dtx, and the planted one, compiled here.

``dtx run experiment=demo`` trains the first one from nothing, ``python -m dtx.app.demo`` writes it into this
package. Its card, ``model/README.md``, says what it does at each target.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dtx.app.models import PLANTED, Entry, of_folder, renamed
from dtx.app.places import of_environment
from dtx.app.training_data import Returns, TrainingData
from dtx.files import read_arrays

if TYPE_CHECKING:
    from dtx.env.environment import Environment
    from dtx.exchange.model_handle import LoadedModel

FOLDER = Path(__file__).with_name("model")
"""As ``dtx export`` writes it, with checkpoints, ``demonstrations.npz`` and ``measured.json``."""
EXPERIMENT = "demo"
"""In ``conf/experiment``: how it is made."""
COMMANDS = (f"dtx run experiment={EXPERIMENT}", "python -m dtx.app.demo")
"""The first trains and measures it, the second writes it into the package; both in one folder."""
DEMONSTRATIONS = "demonstrations.npz"


def entries(scratch: Path) -> list[Entry]:
    """Both models for :class:`dtx.app.models.Catalogue`: ``demo`` and ``planted``.

    Args:
        scratch: An empty folder, which must stay: the planted model is written there.
    """
    place = of_environment(environment())
    planted(scratch)
    compiled = of_folder(scratch, "planted", "planted model, compiled by hand", place, None)
    title = "Decision Transformer that ships with dtx"
    return [
        of_folder(FOLDER, "demo", title, place, training_data),
        renamed(compiled, kind=PLANTED),
    ]


def model(folder: Path = FOLDER) -> LoadedModel:
    """The trained model that ships, as ``dtx.load`` gives it: ``.model``, ``.checkpoints()``, ``.env``.

    Args:
        folder: Where :func:`dtx.app.demo.make.make` wrote it.

    Raises:
        UserError: Its files are missing or damaged.
    """
    from dtx.exchange.loading import exported
    from dtx.exchange.model_handle import LoadedModel

    return LoadedModel(exported(folder, None))


def environment() -> Environment:
    """Where both models act: Memory 7x7, as ``conf/env/memory.yaml`` has it."""
    from dtx.exchange.environments import of_config

    return of_config("memory", None)


def training_data(folder: Path = FOLDER) -> TrainingData:
    """What the trained model was trained on; the planted one was trained on nothing.

    Raises:
        UserError: The file is missing or damaged.
    """
    arrays = read_arrays(folder / DEMONSTRATIONS)
    return TrainingData(Returns(*arrays["returns"].tolist()), arrays["observations"])


def planted(folder: Path) -> LoadedModel:
    """Compile the model of ``dt=planted`` and play it in all layouts: about 30 CPU-ms.

    Args:
        folder: Empty; its weights, ``model.json`` and ``circuit.json`` are written there.
    """
    from dtx.config.compose import compose, experiment
    from dtx.exchange.loading import exported
    from dtx.exchange.model_handle import LoadedModel

    overrides = ["dt=planted", "target=dt"]
    (stage,) = experiment(compose(overrides), overrides).targets.values()
    stage.run(folder)
    return LoadedModel(exported(folder, None))
