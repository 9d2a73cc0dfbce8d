"""SIGTERM and Ctrl-C: finish the step, save, and say so."""

import signal
import threading

import jax
from jax.experimental import multihost_utils


class Interrupted(SystemExit):
    """Stopped by a signal, after saving; the exit status is 128 + the signal's number."""


class Signals:
    """Within `with`, SIGTERM and SIGINT are remembered instead of obeyed; a second SIGINT is obeyed.

    JAX's own preemption point is silent where jax.distributed does not run; there the flag is this process's own, elsewhere
    all hosts agree on the step.
    """

    def __enter__(self) -> "Signals":
        self.number = 0
        self._old = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._old[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _remember(self, number, _frame) -> None:
        if self.number == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number

    @property
    def name(self) -> str:
        return signal.Signals(self.number).name if self.number else "preemption"

    def caught(self, step: int) -> bool:
        """Whether to stop after this step; call it at every step."""
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
            self.number = self.number or signal.SIGTERM
            return True
        return jax.process_count() == 1 and bool(self.number)
