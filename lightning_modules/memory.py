"""Setting of the C library that keeps freed memory.

The same buffers come back every step, and mapping them again costs a fifth of a CPU step.
"""

import ctypes
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # glibc's names for mallopt, see mallopt(3)


def tune_malloc() -> bool:
    """Make glibc's allocator keep freed memory; peak memory stays what it was.

    Returns:
        True if it was set, which only Linux with glibc allows.
    """
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
