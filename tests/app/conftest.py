"""An explorer of small models, made once a process."""

from __future__ import annotations

import pytest

from dtx.app.asked import Explorer
from tests.app import small


@pytest.fixture(scope="session")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> Explorer:
    """See ``tests/app/small.py``."""
    return small.explorer(tmp_path_factory.mktemp("explorer"))
