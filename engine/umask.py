"""Rights of the files of a run: those that the umask gives, and never more than 0755 and 0644."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

WRITABLE_BY_OTHERS = 0o022


@contextmanager
def narrow_umask() -> Iterator[None]:
    """Take the right to write from group and others for all files that are made within the block.

    Some clusters and containers have the umask 000; everybody there could then change checkpoints,
    which others load.
    """
    before = os.umask(WRITABLE_BY_OTHERS)
    os.umask(before | WRITABLE_BY_OTHERS)
    try:
        yield
    finally:
        os.umask(before)
