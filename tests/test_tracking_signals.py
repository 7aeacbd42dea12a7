"""A signal during a call to MLflow."""

import signal

import pytest

from dtx.errors import Interrupted
from dtx.runner import signals
from dtx.tracking.server import whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_a_call_to_the_server(number):
    before = signal.getsignal(number)
    steps = []
    with pytest.raises(Interrupted), signals():
        with whole():
            signal.raise_signal(number)
            steps.append("the call went on")
        steps.append("the work went on")
    assert steps == ["the call went on"]
    assert signal.getsignal(number) is before
