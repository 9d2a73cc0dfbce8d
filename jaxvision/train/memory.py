"""Keeping freed memory: what makes large CPU operations quicker under glibc."""

import ctypes
import sys

# mallopt's parameters, from malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


def keep_memory() -> None:
    """Tells glibc's malloc to keep what is freed, for the buffers of the next step. Call it before JAX is used.

    XLA frees its buffers after every call; glibc would return large ones to the kernel and fetch them again, a page fault
    for every 4 KiB. `benchmarks/cpu_layers.py` measures what it gains. Does nothing where there is no glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in (
            (_MMAP_MAX, 0),
            (_TRIM_THRESHOLD, 2**31 - 1),
            (_TOP_PAD, 2**28),
            (_ARENA_MAX, 1),
        ):
            mallopt(parameter, value)
