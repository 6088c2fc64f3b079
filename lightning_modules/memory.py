"""Tells the C library to keep freed memory: the same buffers come back every step, and mapping them anew costs a fifth of a CPU step."""

import ctypes
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # glibc's names for mallopt, see mallopt(3)


def keep_freed_memory() -> bool:
    """Sets glibc's allocator so; returns whether it did (only on Linux with glibc). Peak memory stays what it was."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library, musl for one
        return False
    return all(
        mallopt(name, value)
        for name, value in ((MMAP_MAX, 0), (TRIM_THRESHOLD, 2**31 - 1), (TOP_PAD, 2**26))
    )
