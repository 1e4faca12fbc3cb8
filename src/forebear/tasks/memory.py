"""Keeps freed memory for the next step, in place of giving it back to the system.

A training step takes and frees the same maps each time. glibc gives large blocks back at once, and
fresh pages fill at a tenth of the speed of warm ones: every pass over a map pays for it.
"""

from __future__ import annotations

import ctypes
import sys

# glibc, malloc.h
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_PAD = 256 * 2**20  # bytes taken from the system at a time
_NEVER = 2**31 - 1  # bytes: mallopt takes an int, and stretches it no further


def keep_memory() -> bool:
    """Makes this process keep the memory that it frees, until it ends; says whether it does.

    It cannot be undone, and the process stays as large as it once was: a program asks for it, a
    library never should. Only glibc has the switch.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    wanted = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _PAD))
    return all(libc.mallopt(option, value) == 1 for option, value in wanted)
