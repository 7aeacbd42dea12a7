"""Export a model as a folder with a card, or demonstrations as a Minari dataset."""

from __future__ import annotations

import argparse

from dtx.errors import UserError
from dtx.text import near
from dtx.verbs._arguments import as_path, store_argument

EXAMPLES = """
  dtx export decision_transformer-0643 handed_over       weights, model card, lineage, figures
  dtx export decision_transformer-0643 handed_over --push me/memory-dt    and to a hub
  dtx export rollouts-0d3d --as dtx/memory/mixture-v0    demonstrations, where Minari looks for them
  dtx export rollouts-0d3d datasets --as dtx/memory/mixture-v0    or in a folder of datasets
"""
OWN_CLASSES = False


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which artefact, and where to write it."""
    parser.add_argument(
        "what", metavar="LABEL", help="beginning of a stage-key or of a key in the store"
    )
    parser.add_argument("dir", metavar="DIR", type=as_path, nargs="?", help="the folder to write")
    store_argument(parser)
    parser.add_argument(
        "--licence", default="unknown", help="models: named on the card (mit, cc-by-4.0)"
    )
    parser.add_argument(
        "--as", dest="name", metavar="ID", help="demonstrations: Minari's id, NAME-vNUMBER"
    )
    parser.add_argument(
        "--force", action="store_true", help="models: write over an earlier export in DIR"
    )
    parser.add_argument(
        "--push",
        metavar="OWNER/MODEL",
        help="models: send the folder to Hugging Face, or to HF_ENDPOINT",
    )
    parser.add_argument("--private", action="store_true", help="with --push: not for everyone")
    parser.add_argument("--author", default="dtx", help="demonstrations: named in the metadata")


def main(args: argparse.Namespace) -> int:
    """Find the artefact, write it, print how to read it."""
    from dtx.exchange.lookup import kind_of, one_of
    from dtx.store.store import Store

    store = Store(args.store)
    label = one_of(store, args.what)
    kind = kind_of(store.root / label)
    if args.private and not args.push:
        raise UserError("--private goes with --push OWNER/MODEL")
    if kind == "dataset":
        if args.push:
            raise UserError(f"{label}: models can be pushed, not demonstrations")
        from dtx.dataset.minari.write import export

        if args.name is None:
            raise UserError(
                f"{label} holds demonstrations: --as names the Minari dataset (--as dtx/mine-v0)"
            )
        return export(label, store, args.name, args.dir, args.author)
    if kind not in ("dt", "agent"):
        raise UserError(
            f"{label}: models (dt, agent) and demonstrations can be exported, not {kind}"
        )
    if args.dir is None:
        raise UserError(f"{label}: name the folder to write")
    from dtx.exchange.export import export

    what, written = export(store, label, kind, args.dir, args.licence, args.force)
    read = sum(bool(r.headline) for r in what.readings)
    done = f"wrote {near(args.dir)}" if written else f"{near(args.dir)} is there already"
    print(f"{done}: {label} with what {read} analyses found; its README.md is the card")
    if args.licence == "unknown":
        print("the card names no licence: give one with --licence NAME")
    print(f'use it: dtx.load("{kind}", path="{near(args.dir)}")')
    if args.push:
        from dtx.exchange.hub import push

        print(f"pushed to {push(args.dir, args.push, args.private)}")
        print(f"elsewhere: dtx import hf://{args.push}")
    return 0
