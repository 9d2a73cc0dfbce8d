import os
import signal
import time

import pytest

from jaxvision.train.signals import Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_remembered_and_then_others_get_theirs_again(number):
    before = signal.getsignal(number)
    with Signals() as signals:
        assert not signals.caught(1)
        os.kill(os.getpid(), number)
        assert signals.caught(2) and (signals.number, signals.name) == (number, number.name)
    assert signal.getsignal(number) == before


def test_a_second_interrupt_is_obeyed():
    with pytest.raises(KeyboardInterrupt), Signals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.caught(1)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)
