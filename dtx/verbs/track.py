"""Mirror what the store has and MLflow lacks."""

from __future__ import annotations

import argparse

from dtx.verbs._arguments import store_argument, tracking_argument

EXAMPLES = """
  dtx track                                       into mlflow.db beside the store, or MLFLOW_TRACKING_URI
  dtx track --store /data/store --uri http://127.0.0.1:5000

For finished stages whose run MLflow lost: the database was deleted or locked, its disk full, the server gone.
`dtx status` says which. Doing it twice adds nothing, and a run that somebody deleted in MLflow stays deleted.
"""
OWN_CLASSES = False


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which store, and where to."""
    store_argument(parser)
    tracking_argument(parser)
    parser.add_argument(
        "--experiment", default="dtx", help="MLflow experiment of new runs (default: dtx)"
    )


def main(args: argparse.Namespace) -> int:
    """Mirror; print what was added and what is left as it is."""
    from dtx.config.compose import TrackingConfig
    from dtx.store.inventory import artefacts, existing
    from dtx.store.store import Store, used
    from dtx.text import discreet
    from dtx.tracking import Server, lacking, make_up

    root = existing(args.store)
    with used(Store(root)):
        finished = artefacts(root)[::-1]  # inputs were finished first
        server = Server(TrackingConfig(enabled=True, uri=args.uri, experiment=args.experiment))
        done = make_up(server, finished)
        server.raise_if_broken(root)
        left = lacking(server.uri, artefacts(root))  # the records name other runs now
    deleted = f", {len(left.deleted)} deleted in MLflow stay so" if left.deleted else ""
    lost = f", {len(left.artefacts)} could not be mirrored" if left.artefacts else ""
    where = discreet(server.uri)
    print(f"{len(finished)} finished stages: {len(done)} mirrored to {where}{deleted}{lost}")
    return 2 if left.artefacts else 0
