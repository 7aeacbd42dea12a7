"""Mirror runs to MLflow; the only package that imports it.

A sweep has a run, each of its jobs one under it, and each executed stage one under its job; stages that jobs
share are directly under the sweep's. ``dtx run`` is one job. Stages found in the store are linked.
Stages write files; here they are mirrored. Demonstrations are dataset inputs with their key as digest, agents
and DTs are models; the run of a stage has its key and those of its inputs as tags. What MLflow lacks, because
it was lost or deleted, is mirrored from the store by the next command.
"""

from __future__ import annotations

from dtx.tracking.experiment_run import open_tracker
from dtx.tracking.job_run import Job
from dtx.tracking.lacking import Gap, lacking
from dtx.tracking.mirror import artefacts_of, is_behind, make_up, only_told
from dtx.tracking.server import Server
from dtx.tracking.sweep_run import EndedJob, SweepRun, command_of, log_to_sweep, open_sweep
from dtx.tracking.uri import database_of, default_uri, tracking_uri

__all__ = [
    "EndedJob",
    "Gap",
    "Job",
    "Server",
    "SweepRun",
    "artefacts_of",
    "command_of",
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
