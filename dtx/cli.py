"""Declarative experiments for interpreting Decision Transformers on gridworlds.

``dtx VERB``: the verbs stand in :mod:`dtx.verbs`, one file each.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from dtx.errors import Interrupted, UserError
from dtx.run.signals import signals

VERBS = (
    "run",
    "plan",
    "status",
    "compare",
    "reproduce",
    "invalidate",
    "gc",
    "ls",
    "cp",
    "import",
    "export",
    "ui",
    "completion",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the ``dtx`` command; gives the exit status.

    0: done. 1: a defect, or failed jobs of a sweep. 2: something the user can mend. 130: interrupted.
    """
    # A user's own stages stand in Python files of the working directory; at the end, so as to hide nothing.
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        with signals():
            args = parse(list(sys.argv[1:] if argv is None else argv))
            return importlib.import_module(f"dtx.verbs.{args.verb}").main(args)
    except UserError as error:
        for line in str(error).splitlines():
            say(f"error: {line}")
        return 1 if getattr(error, "defect", False) else 2
    except (Interrupted, KeyboardInterrupt):
        say("interrupted: finished stages are kept; give the same command again to go on")
        return 130
    except BrokenPipeError:  # `dtx plan | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Arguments of one verb. Flags may stand anywhere among the overrides."""
    parser = argparse.ArgumentParser(prog="dtx", description=(__doc__ or "").split("\n\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name in VERBS:
        module = importlib.import_module(f"dtx.verbs.{name}")
        text = (module.__doc__ or "").splitlines()[0].rstrip(".")
        verb = verbs.add_parser(
            name,
            help=text[0].lower() + text[1:],
            description=text,
            epilog=f"examples:{module.EXAMPLES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.arguments(verb)
    args, rest = parser.parse_known_args(argv)
    # argparse takes positional words from one place only; those after a flag are left over.
    late = [word for word in rest if not word.startswith("-")]
    if not hasattr(args, "overrides") or late != rest:
        wrong = [word for word in rest if word not in late] or rest
        if wrong:
            parser.error(f"unrecognized arguments: {' '.join(wrong)}")
    if hasattr(args, "overrides"):
        args.overrides = [*args.overrides, *late]
    if getattr(args, "config_dir", "none here") is None:
        args.config_dir = own_configs()
    return args


def own_configs() -> Path | None:
    """``./conf``, where a user's own configs are looked for unasked."""
    from dtx.config.compose import CONF

    here = Path("conf")
    return here if here.is_dir() and here.resolve() != CONF.resolve() else None


def say(line: str) -> None:
    """One line to standard error, named as ours."""
    print(f"dtx: {line}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
