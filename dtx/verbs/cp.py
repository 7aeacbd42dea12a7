"""Copy one of dtx's configs to start your own from."""

from __future__ import annotations

import argparse
import re
import shlex

from dtx.errors import UserError
from dtx.verbs._arguments import as_path, config_dir_argument

EXAMPLES = """
  dtx cp agent/ppo mine --as sharp           writes mine/agent/sharp.yaml
  dtx cp analysis/calibration ~/mine --as b1 and prints the command that uses it
"""
OWN_CLASSES = False


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to copy, and where to."""
    parser.add_argument("option", metavar="GROUP/NAME", help="as `dtx ls` shows them")
    parser.add_argument("folder", metavar="DIR", type=as_path, help="your folder of configs")
    parser.add_argument("--as", dest="name", metavar="NAME", help="its name there")
    parser.add_argument("--force", action="store_true", help="overwrite an existing config")
    config_dir_argument(parser, "your own configs, to copy one of them")


def main(args: argparse.Namespace) -> int:
    """Copy one YAML file and print the command that uses it."""
    from dtx.beside import building, put
    from dtx.config.compose import CONF
    from dtx.config.options import find
    from dtx.files import refuse_links
    from dtx.text import near

    option = find(args.option, args.config_dir)
    name = (args.name or option.name).removesuffix(".yaml")
    if not re.fullmatch(r"[A-Za-z]\w*", name):
        raise UserError(f"--as {name}: a name has letters, digits and _, and begins with a letter")
    if (CONF / option.group / f"{name}.yaml").exists():
        raise UserError(
            f"dtx's own {option.group}/{name} takes precedence over yours: choose another name "
            f"(--as my_{name})"
        )
    new = args.folder / option.group / f"{name}.yaml"
    if option.own:
        refuse_links(option.path)
    text = renamed(option.path.read_text(), option.group, option.name, name)
    advice = "choose another name with --as, or --force to write over it"
    try:
        with building(new, args.folder) as scratch:
            (scratch / "new").write_text(text)  # no *.yaml, which would be found as a config
            is_new = put(scratch / "new", new, advice, replace=args.force, root=args.folder)
    except OSError as error:
        raise UserError(f"cannot write {new}: {error.strerror}") from None
    choice = f"{option.group}=[{name}]" if option.group == "analysis" else f"{option.group}={name}"
    print(f"wrote {near(new)}" if is_new else f"{near(new)} is there already")
    flags = ["-m"] if option.group.startswith("hydra/") else []  # launchers are for sweeps
    command = ["dtx", "run", *flags, "--config-dir", str(args.folder), choice]
    print(f"use it: {shlex.join(command)}")
    return 0


def renamed(text: str, group: str, old: str, new: str) -> str:
    """The text with its own place in the config renamed: an analysis stands at ``analysis.NAME``.

    Other groups have one place, whatever the option's name.
    """
    if group != "analysis":
        return text
    text = re.sub(rf"^(#\s*@package\s+analysis\.){old}\b", rf"\g<1>{new}", text, flags=re.MULTILINE)
    return re.sub(rf"(\$\{{analysis\.){old}\b", rf"\g<1>{new}", text)
