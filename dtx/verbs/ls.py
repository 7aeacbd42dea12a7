"""List the configs to choose from."""

from __future__ import annotations

import argparse

from dtx.verbs._arguments import config_dir_argument

EXAMPLES = """
  dtx ls                           every group and its options
  dtx ls agent
  dtx ls --config-dir mine experiment
"""
OWN_CLASSES = False


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which group."""
    parser.add_argument("group", nargs="?", help="one group: agent, dt, analysis, experiment")
    config_dir_argument(parser, "your own configs, listed beside dtx's")


def main(args: argparse.Namespace) -> int:
    """Print groups with their options; a star marks the defaults."""
    from dtx.config.options import check_group, options

    known = options(args.config_dir)
    if args.group:
        group = args.group.strip("/")
        check_group(group, known)
        known = {group: known[group]}
    width = max(len(o.name) for entries in known.values() for o in entries)
    for i, (group, entries) in enumerate(known.items()):
        print(f"{group}:" if i == 0 else f"\n{group}:")
        for option in entries:
            place = f" ({option.path})" if option.own else ""
            if option.hidden:
                place = f" ({option.path}: not used: dtx's config of this name takes precedence)"
            print(f"{'*' if option.default else ' '} {option.name:{width}}  {option.text()}{place}")
    print("\n* the default. Choose another with `dtx run GROUP=NAME` (analysis=[NAME,NAME])")
    return 0
