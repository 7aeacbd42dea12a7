import dataclasses

import numpy as np
import pandas as pd
import pytest

from dtx.analysis.ablation import Ablation
from dtx.analysis.attribution import Attribution
from dtx.analysis.congruence import Congruence
from dtx.analysis.core.inputs import Contrast, Inputs
from dtx.app.asked import Explorer
from dtx.app.models import Catalogue, Loader
from dtx.app.scene import OpenPanel, Scene
from dtx.env.actions import Action
from dtx.running.runner import run
from dtx.store.store import Store
from tests.analysis.conftest import env, rollouts, tiny  # noqa: F401  # fixtures
