"""Mirror runs to MLflow; the only package that imports it.

One MLflow run for the experiment or the sweep and, nested under it, one for each stage that is executed;
stages found in the store are linked, not copied. Stages write files; here they are mirrored. Every artefact
is a dataset input with its key as digest, with context ``produced`` in the run that made it and the field's
name in the runs that read it, so a search by digest gives the lineage.
"""

from __future__ import annotations

from dtx.tracking.experiment_run import open_tracker
from dtx.tracking.sweep_run import log_to_sweep, open_sweep
from dtx.tracking.uri import database_of, default_uri

__all__ = ["database_of", "default_uri", "log_to_sweep", "open_sweep", "open_tracker"]
