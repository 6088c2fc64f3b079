"""Rights of the files of a run: those that the umask gives, and never more than 0755 and 0644."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

WRITABLE_BY_OTHERS, ALL_OF_OTHERS = 0o022, 0o077


@contextmanager
def narrow_umask(private: bool = False) -> Iterator[None]:
    """Take the right to write from group and others for all files that are made within the block.

    Some clusters and containers have the umask 000; everybody there could then change checkpoints,
    which others load.

    Args:
        private: True to take all rights from them (`private=true`).
    """
    before = os.umask(ALL_OF_OTHERS)
    os.umask(before | (ALL_OF_OTHERS if private else WRITABLE_BY_OTHERS))
    try:
        yield
    finally:
        os.umask(before)


def make_private() -> None:
    """Take all rights from group and others, until an enclosing `narrow_umask` ends."""
    os.umask(ALL_OF_OTHERS)
