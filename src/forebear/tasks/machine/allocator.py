"""Keeps freed memory for the next step instead of returning it to the system.

A training step takes and frees the same maps each time. glibc gives large blocks back at once, and
fresh pages fill at a tenth of the speed of warm ones: every pass over a map pays for it.
"""

from __future__ import annotations

import ctypes
import os
import sys

# glibc's malloc.h, and Linux's mman.h
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_MADV_HUGEPAGE = 14
_PAD = 256 * 2**20  # bytes taken from the system at a time
_NEVER = -1
_HUGE = 2**21  # bytes of a large page


def keep_memory() -> bool:
    """Makes this process keep the memory that it frees; returns whether that worked.

    Where the system has large pages for those who ask, the memory consists of them: their addresses
    are found faster. It cannot be undone, and the process stays as large as it once was: a program
    asks for it, a library never should. Only glibc has the switch.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    wanted = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _PAD))
    kept = all(libc.mallopt(option, value) == 1 for option, value in wanted)
    if kept:
        _ask_for_large_pages(libc)
    return kept


def _ask_for_large_pages(libc: ctypes.CDLL) -> None:
    """Extends the heap by addresses without memory, and requests large pages for them."""
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    start = libc.malloc(size)
    if not start:  # addresses are limited: use small pages
        return
    first = -(-start // _HUGE) * _HUGE
    libc.madvise(first, (start + size - first) // _HUGE * _HUGE, _MADV_HUGEPAGE)
    libc.free(start)
