"""SIGTERM and Ctrl-C: finish the step, save, and say so."""

import os
import signal
import threading

import jax
from jax.experimental import multihost_utils


class Interrupted(SystemExit):
    """Stopped by a signal, after saving; the exit status is 128 + the signal's number."""


class Signals:
    """Within `with`, SIGTERM and SIGINT are remembered instead of obeyed; a second SIGINT is obeyed.

    One process keeps a flag of its own. Several must agree on the step they stop after, which is done by JAX's preemption
    service: it listens to SIGTERM itself, and is told of a SIGINT as if it were one.
    """

    def __enter__(self) -> "Signals":
        self.number = 0
        self._old = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT,) if jax.process_count() > 1 else (signal.SIGINT, signal.SIGTERM):
                self._old[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _remember(self, number, _frame) -> None:
        if self.number == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number
        if jax.process_count() > 1:
            os.kill(os.getpid(), signal.SIGTERM)

    @property
    def name(self) -> str:
        return signal.Signals(self.number).name if self.number else "preemption"

    def caught(self, step: int) -> bool:
        """Whether to stop after this step; call it at every step."""
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
            self.number = self.number or signal.SIGTERM
            return True
        return jax.process_count() == 1 and bool(self.number)
