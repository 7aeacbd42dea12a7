"""Print the shell's completion script.

The scripts ask ``dtx completion --query LINE`` what could come next. Groups, options and fields are found by
Hydra's own completion, on the config as the line composes it.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from dtx import verbs
from dtx.config.compose import hydra_configs
from dtx.config.options import options, own_configs
from dtx.errors import UserError
from dtx.verbs._arguments import as_path, existing_folder

EXAMPLES = """
  eval "$(dtx completion bash)"          in ~/.bashrc; `zsh` in ~/.zshrc, after compinit
  dtx completion fish | source           in ~/.config/fish/config.fish
"""
OWN_CLASSES = False

# Each asks `dtx completion --query LINE` (the line up to the cursor). A candidate that ends in a space
# is a whole word; after others (`agent.`, `dt=`) the same word goes on.
BASH = r"""
_dtx() {
    local IFS=$'\n' found word="${COMP_LINE:0:COMP_POINT}" cut=""
    found=($("$1" completion --query="$word" 2>/dev/null))
    # Outside quotes Bash breaks words at = and :, and wants only what follows the last of them.
    word="${word##*[[:space:]]}"
    [[ $word == [\"\']* ]] || cut="${word%"${word##*[=:]}"}"
    COMPREPLY=("${found[@]#"$cut"}")
}
complete -o nospace -F _dtx dtx
"""
ZSH = r"""
_dtx() {
    local -a found whole part
    found=("${(@f)$("${words[1]}" completion --query="${words[1,CURRENT-1]} $PREFIX" 2>/dev/null)}")
    whole=("${(@)${(M)found:#* }% }"); part=("${(@)found:#* }")
    (( ${#${(@)whole:#}} )) && compadd -- "${(@)whole:#}"
    (( ${#${(@)part:#}} )) && compadd -S '' -- "${(@)part:#}"
}
compdef _dtx dtx
"""
FISH = r"""
function __dtx_complete
    set -l program (commandline -opc)[1]
    $program completion --query=(commandline -cp | string collect) 2>/dev/null | string trim --right
end
complete --command dtx --no-files --arguments '(__dtx_complete)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
_WHOLE = " "  # ends a candidate after which a new word starts; others (`agent.`, `dt=`) go on


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which shell; or what to complete, asked by the script."""
    parser.add_argument("shell", nargs="?", choices=[*SCRIPTS])
    parser.add_argument("--query", metavar="LINE", help=argparse.SUPPRESS)


def main(args: argparse.Namespace) -> int:
    """Print the script, or the candidates."""
    if args.query is not None:
        for candidate in complete(args.query):
            print(candidate)
        return 0
    if args.shell is None:
        raise UserError(f"which shell? dtx completion {'|'.join(SCRIPTS)}")
    print(SCRIPTS[args.shell].strip())
    return 0


# --- what could come next ----------------------------------------------------------------------------


def complete(line: str) -> list[str]:
    """Candidates for the word that the cursor stands behind.

    Args:
        line: The command line up to the cursor, with the name of the program.

    Returns:
        Whole words; a space at the end of one says that the word is complete.
    """
    words = split(line)
    if len(words) < 2:
        return []
    if len(words) == 2:
        return [verb + _WHOLE for verb in verbs.names() if verb.startswith(words[1])]
    if words[1] not in verbs.names():
        return []
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-h", "--help", action="store_true")
    verbs.module_of(words[1]).arguments(parser)
    return sorted(set(_Line(parser, words[2:]).candidates()))


def split(line: str) -> list[str]:
    """Words of a line that may end within quotes; the last is the one at the cursor, perhaps empty."""
    for closing in ("", "'", '"'):
        with contextlib.suppress(ValueError):
            words = shlex.split(line + closing)
            return [*words, ""] if not closing and line[-1:].isspace() else words
    return []


class _Line:
    """The words after the verb, sorted into flags, their values, and the others."""

    def __init__(self, parser: argparse.ArgumentParser, words: Sequence[str]):
        self.flags = {s: a for a in parser._actions for s in a.option_strings if _shown(a)}
        self.positional = [a for a in parser._actions if not a.option_strings]
        *before, self.word = words
        self.values: dict[str, str] = {}
        self.free: list[str] = []
        self.open: argparse.Action | None = None  # a flag that waits for a value
        for word in before:
            name, equals, value = word.partition("=")
            if name in self.flags:
                action = self.flags[name]
                self.open = action if not equals and action.nargs != 0 else None
                self.values[action.dest] = value
            elif self.open is not None:
                self.values[self.open.dest] = word
                self.open = self.open if self.open.nargs in ("+", "*") else None
            else:
                self.free.append(word)

    def candidates(self) -> Iterator[str]:
        """All that could stand at the cursor."""
        if self.word.startswith("-"):
            name, equals, value = self.word.partition("=")
            if equals and name in self.flags:
                yield from (f"{name}={v}" for v in self._values(self.flags[name], value))
            else:
                yield from (flag + _WHOLE for flag in self.flags if flag.startswith(self.word))
            return
        if self.open is not None:
            yield from self._values(self.open, self.word)
            if self.open.nargs != "?":
                return
        for i, action in enumerate(self.positional):
            if action.nargs == "*" or i == len(self.free):
                yield from self._values(action, self.word)
                return

    def _values(self, action: argparse.Action, word: str) -> Iterator[str]:
        if action.choices is not None:
            yield from (f"{c}{_WHOLE}" for c in action.choices if str(c).startswith(word))
            return
        sources: dict[str, Callable[[], Iterator[str]]] = {
            "prefix": self._artefacts,
            "keep": self._artefacts,
            "forget": self._runs,
            "group": lambda: iter(self._options()),
            "option": lambda: (f"{g}/{n}" for g, names in self._options().items() for n in names),
            "preset": lambda: iter(self._options().get("experiment", ())),
        }
        if action.dest == "overrides":
            yield from self._overrides(word)
        elif action.dest in sources:
            yield from (f"{s}{_WHOLE}" for s in sources[action.dest]() if s.startswith(word))
        elif action.type in (as_path, existing_folder):
            files = action.dest not in ("config_dir", "store", "folder")
            yield from paths(word, files=files)

    def _config_dir(self) -> Path | None:
        given = self.values.get("config_dir")
        if not given:
            return own_configs()
        folder = Path(given).expanduser()
        return folder if folder.is_dir() else None

    def _options(self) -> dict[str, list[str]]:
        known = options(self._config_dir())
        return {
            group: [o.name for o in entries if not o.hidden] for group, entries in known.items()
        }

    def _store(self) -> Path:
        return Path(self.values.get("store") or "store").expanduser()

    def _artefacts(self) -> Iterator[str]:
        for place in (self._store(), self._store() / ".work"):
            yield from (p.name for p in place.glob("[!.]*-*") if p.is_dir())

    def _runs(self) -> Iterator[str]:
        return (p.stem for p in (self._store() / ".runs").glob("*.json"))

    def _overrides(self, word: str) -> Iterator[str]:
        """Hydra's candidates. In a list or a sweep (``dt=small,me``) those for its last part."""
        given = [w for w in self.free if "=" in w and not any(c.isspace() for c in w)]
        name, equals, value = word.partition("=")
        begun = max(value.rfind(mark) for mark in "[,") + 1
        head, last = f"{name}{equals}{value[:begun]}", value[begun:]
        asked = f"{name}={last}" if begun else word
        if name in ("store.path", "store.remote") and equals:
            yield from (f"{name}={p}" for p in paths(value, files=False))
            return
        for candidate in hydra_candidates(asked, given, self._config_dir()):
            if begun:  # another part or a closing bracket may follow
                yield head + candidate.partition("=")[2]
            else:
                yield candidate if candidate.endswith(("=", ".", "/")) else candidate + _WHOLE


def hydra_candidates(word: str, overrides: Sequence[str], config_dir: Path | None) -> list[str]:
    """Groups, options, fields and values that begin with ``word``, by Hydra's completion.

    Overrides that Hydra does not take are left out, so that one mistake does not end all help.
    """
    from hydra.core.global_hydra import GlobalHydra
    from hydra.plugins.completion_plugin import DefaultCompletionPlugin

    with warnings.catch_warnings(), hydra_configs(config_dir):
        warnings.simplefilter("ignore")
        plugin = DefaultCompletionPlugin(GlobalHydra.instance().config_loader())
        candidates: list[str] = []
        for kept in (overrides, []):
            # Hydra raises many kinds of exceptions here; on a Tab key none of them helps.
            with contextlib.suppress(Exception):
                candidates = candidates or plugin._query("config", " ".join([*kept, word]))
    hidden = ("hydra", "+hydra", "~hydra")
    return [
        f
        for f in candidates
        if f.startswith(word)
        and (word.startswith(hidden) or not f.startswith(hidden))
        and not f.endswith("._target_=")
    ]


def paths(word: str, *, files: bool) -> Iterator[str]:
    """Folders, and files if wanted, that begin with ``word``; a folder goes on with a slash."""
    head, slash, last = word.rpartition("/")
    folder = Path(head + slash or ".").expanduser()
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if not path.name.startswith(last) or (path.name.startswith(".") and not last):
                continue
            if path.is_dir():
                yield f"{head}{slash}{path.name}/"
            elif files:
                yield f"{head}{slash}{path.name}{_WHOLE}"


def _shown(action: argparse.Action) -> bool:
    return action.help != argparse.SUPPRESS
