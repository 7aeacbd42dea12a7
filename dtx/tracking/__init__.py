"""Mirror runs to MLflow; the only package that imports it.

One MLflow run for the experiment or the sweep and, nested under it, one for each stage that is executed;
stages found in the store are linked, not copied. Stages write files; here they are mirrored. Every artefact
is a dataset input with its key as digest, with context ``produced`` in the run that made it and the field's
name in the runs that read it, so a search by digest gives the lineage. What MLflow lacks, for it was lost or
deleted, is mirrored from the store by the next command.
"""

from __future__ import annotations

from dtx.tracking.experiment_run import open_tracker
from dtx.tracking.lacking import Gap, lacking
from dtx.tracking.mirror import is_behind, make_up, only_told
from dtx.tracking.server import Server
from dtx.tracking.sweep_run import log_to_sweep, open_sweep
from dtx.tracking.uri import database_of, default_uri, tracking_uri

__all__ = [
    "Gap",
    "Server",
    "database_of",
    "default_uri",
    "is_behind",
    "lacking",
    "log_to_sweep",
    "make_up",
    "only_told",
    "open_sweep",
    "open_tracker",
    "tracking_uri",
]
