"""The verbs: ``dtx run``, ``plan``, ``invalidate``, ``ui``."""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from dtx.config import CONF, Experiment, compose, experiment
from dtx.errors import Interrupted, UserError
from dtx.progress import console

_HYDRA_FLAGS = (
    "-m",
    "--multirun",
    "--cfg",
    "-c",
    "--info",
    "-i",
    "--hydra-help",
    "--resolve",
    "--package",
    "-p",
)

RUN_EPILOG = """examples:
  dtx run                                        the default study
  dtx run experiment=quickstart seed=3           a preset with another seed
  dtx run agent.learning_rate=5e-4 dt=small      any field of any stage
  dtx run target=dataset                         only as far as the demonstrations
  dtx run -m dt.seed=0,1,2                       a sweep: agent and dataset are shared
  dtx run --cfg job                              show the composed config (Hydra's flags work)
"""

INVALIDATE_EPILOG = """examples:
  dtx invalidate ppo-3f0c
  dtx invalidate calibration
"""

UI_EPILOG = """examples:
  dtx ui
  dtx ui --port 5001
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the ``dtx`` command; gives the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        return _main(argv)
    except UserError as error:
        for line in str(error).splitlines():
            _say(f"error: {line}")
        return 2
    except (Interrupted, KeyboardInterrupt):
        _say("interrupted: finished stages are kept; give the same command again to go on")
        return 130
    except BrokenPipeError:  # `dtx plan | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="dtx", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def add(name: str, text: str, examples: str) -> argparse.ArgumentParser:
        shape = argparse.RawDescriptionHelpFormatter
        return verbs.add_parser(
            name, help=text, description=text, epilog=examples, formatter_class=shape
        )

    for name, text in (("run", "run the stages that are missing"), ("plan", "say what would run")):
        verb = add(name, text, RUN_EPILOG.replace("dtx run", f"dtx {name}"))
        verb.add_argument("--config-dir", type=Path, help="your own configs, searched beside dtx's")
        verb.add_argument("overrides", nargs="*", help="Hydra overrides: group=name, field=value")
    verb = add("invalidate", "set artefacts aside so that they are made again", INVALIDATE_EPILOG)
    verb.add_argument("prefix", help="beginning of a folder name in the store: stage or stage-key")
    verb.add_argument("--store", type=Path, default=Path("store"), help="default: store")
    verb = add("ui", "open the MLflow UI on this folder's runs", UI_EPILOG)
    verb.add_argument("--port", type=int, default=5000)
    verb.add_argument("--uri", help="tracking URI (default: MLFLOW_TRACKING_URI, else ./mlflow.db)")
    known, rest = parser.parse_known_args(argv)
    if known.verb == "run" and any(a.split("=")[0] in _HYDRA_FLAGS for a in argv[1:]):
        return _hydra(argv[1:])
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if known.verb == "run":
        return _run(experiment(compose(known.overrides, known.config_dir)))
    if known.verb == "plan":
        return _plan(experiment(compose(known.overrides, known.config_dir)))
    if known.verb == "invalidate":
        return _invalidate(known.store, known.prefix)
    return _ui(known.uri, known.port)


def _run(what: Experiment) -> int:
    from dtx.runner import run

    start = time.monotonic()
    outcomes = run(what)
    table = Table(title=None, box=None, pad_edge=False, header_style="bold")
    for column in ("stage", "key", "status", "what came out"):
        table.add_column(column, overflow="fold")
    for outcome in outcomes:
        status = f"ran {outcome.seconds:.0f} s" if outcome.status == "ran" else outcome.status
        summary = outcome.stage.summary() if outcome.status != "not needed" else ""
        table.add_row(outcome.stage.name, outcome.stage.key[:8], status, escape(summary))
    console.print(table)
    ran = sum(o.status == "ran" for o in outcomes)
    told = (
        f"{ran} of {len(outcomes)} stages ran"
        if ran
        else f"everything reused ({len(outcomes)} stages)"
    )
    console.print(f"{told} in {time.monotonic() - start:.1f} s")
    for target in what.targets.values():
        for figure in sorted((target.path / "figures").glob("*.png")):
            console.print(f"figure: {_near(figure)}", soft_wrap=True)
    console.print(
        "review: dtx ui" if what.tracking.enabled else f"files: {_near(what.store.path)}",
        soft_wrap=True,
    )
    return 0


def _plan(what: Experiment) -> int:
    from dtx.runner import missing, stages
    from dtx.store import Store

    store = Store(what.store.path)
    todo = {s.label for s in missing(what.targets.values(), store)}
    for stage in stages(what.targets.values()):
        status = "run" if stage.label in todo else "reuse" if store.has(stage) else "not needed"
        print(f"{status:10} {stage.label}")
    return 0


def _invalidate(root: Path, prefix: str) -> int:
    from dtx.store import Store

    moved = Store(root).invalidate(prefix)
    if not moved:
        raise UserError(
            f"nothing in {root} starts with {prefix!r}; `ls {root}` shows what is there"
        )
    for folder in moved:
        print(f"set aside: {_near(folder)}")
    return 0


def _ui(uri: str | None, port: int) -> int:
    from dtx.tracking import default_uri

    uri = uri or default_uri()
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise UserError(
            f"no runs here yet ({uri}): `dtx run` first, or name another place with --uri"
        )
    # Without the job runner the server is 2 processes instead of 10.
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    console.print(f"MLflow UI: http://127.0.0.1:{port} (Ctrl-C ends it)")
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "ui",
        "--backend-store-uri",
        uri,
        "--port",
        str(port),
    ]
    os.execv(sys.executable, command)


def _hydra(argv: list[str]) -> int:
    """A sweep, or one of Hydra's own flags: through Hydra's main, which knows launchers and sweepers."""
    import hydra

    failures: list[tuple[str, str]] = []

    def job(config) -> None:
        # Hydra stops a sweep at the first exception and hides all but one; so none leaves a job.
        from hydra.core.hydra_config import HydraConfig

        name = ",".join(HydraConfig.get().overrides.task) or "defaults"
        console.rule(escape(name), align="left")
        try:
            _run(experiment(config))
        except UserError as error:
            failures.append((name, str(error)))
        except Exception:  # a defect in one job must not cost the others
            failures.append((name, traceback.format_exc().strip()))

    sys.argv = ["dtx run", *_flags_first(argv)]
    hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(job)()
    for name, message in failures:
        _say(f"failed: {name}")
        for line in message.splitlines():
            _say(f"  {line}")
    return 1 if failures else 0


def _flags_first(argv: Sequence[str]) -> list[str]:
    """Hydra's parser wants its flags before the overrides; users write them anywhere."""
    flags, overrides = [], []
    words = iter(argv)
    for word in words:
        if not word.startswith("-"):
            overrides.append(word)
            continue
        flags.append(word)
        if word in ("--cfg", "-c", "--package", "-p", "--config-dir", "-cd", "--info", "-i"):
            flags += [value for value in [next(words, None)] if value is not None]
    return flags + overrides


def _say(line: str) -> None:
    print(f"dtx: {line}", file=sys.stderr)


def _near(path: Path) -> Path:
    """The path relative to the working directory where that is shorter."""
    path = path.absolute()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    sys.exit(main())
