"""Declarative experiments for interpreting Decision Transformers on gridworlds.

``dtx VERB``: the verbs are the modules of :mod:`dtx.verbs`.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from dtx import __version__, verbs
from dtx.config.hydra_settings import asks_for_a_sweep
from dtx.config.own_classes import look_in
from dtx.errors import Interrupted, UserError
from dtx.running.signals import signals
from dtx.text import lasting_output, say

_OF_THE_MACHINE = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
    *(errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EMFILE, errno.ENFILE),
}
"""Errors that say what is wrong with a folder, a disk or a name: something that the user can mend."""


_NOT_HERE = (
    "`dtx {0}` imports nothing from here; if you trust this folder: PYTHONPATH=. dtx {0} ..."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the ``dtx`` command; returns the exit status.

    0: done. 1: a defect, or failed jobs of a sweep. 2: something the user can mend. 130: interrupted.
    """
    _open_streams()
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # other processes import nothing from here, either
    with lasting_output():
        return _main(list(sys.argv[1:] if argv is None else argv))


def _main(argv: Sequence[str]) -> int:
    try:
        with signals():
            here = _working_folder()
            args = parse(argv)
            verb = verbs.module_of(args.verb)
            look_in(here, None if verb.OWN_CLASSES else _NOT_HERE.format(args.verb))
            return verb.main(args)
    except UserError as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exc()
        for line in str(error).splitlines():
            say(f"error: {line}")
        return 1 if error.defect else 2
    except (Interrupted, KeyboardInterrupt):
        say("interrupted: finished stages are kept; give the same command again to continue")
        return 130
    except BrokenPipeError:  # `dtx plan | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # of a disk or a folder; any other is a defect
        if error.errno not in _OF_THE_MACHINE:
            raise
        place = f"{error.filename}: " if error.filename is not None else ""
        say(f"error: {place}{error.strerror}; mend that and give the same command again")
        return 2


def _open_streams() -> None:
    """Open what was closed (``2>&-``): else the next file to be opened gets what is printed."""
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(number)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if vars(sys)[name] is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def _working_folder() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise UserError("the working folder is not there any more: go to another one") from None


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Arguments of one verb. Flags may stand anywhere among the overrides."""
    words = (__doc__ or "").split("\n\n")[0]
    # A flag that is cut short would be another one's: Hydra's -cn is no --cfg n.
    parser = argparse.ArgumentParser(prog="dtx", description=words, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"dtx {__version__}")
    parser.set_defaults(overrides=None, multirun=False)  # of verbs that take none
    choices = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name in verbs.names():
        module = verbs.module_of(name)
        text = (module.__doc__ or name).splitlines()[0].rstrip(".")  # python -OO has no docstrings
        verb = choices.add_parser(
            name,
            help=text[0].lower() + text[1:],
            description=text,
            epilog=f"examples:{module.EXAMPLES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.arguments(verb)
    args, rest = parser.parse_known_args(argv)
    # argparse takes positional words from one place only; those after a flag are left over.
    late = [word for word in rest if not word.startswith("-")]
    if args.overrides is None or late != rest:
        wrong = [word for word in rest if word not in late] or rest
        if wrong:
            parser.error(f"unrecognized arguments: {' '.join(wrong)}")
    if args.overrides is not None:
        args.overrides = [*args.overrides, *late]
        args.multirun = args.multirun or asks_for_a_sweep(args.overrides)
    return args


if __name__ == "__main__":
    sys.exit(main())
