"""Shared memory, through which loader processes hand over their batches."""

import re
import shutil
from pathlib import Path

from datamodules.errors import UserError

SHARED_MEMORY = Path("/dev/shm")
PREFETCH_FACTOR = 4  # batches that a worker holds ready
SEMAPHORE_BYTES = 16 * 4096  # of a worker's queues, a page each
FAILURE = re.compile(  # words of PyTorch where it is full, missing or not writable
    r"shared memory ?\(shm\)|out of shared memory|shared memory object|unable to mmap .* from file"
)
MEND = (
    "set datamodule.num_workers=0, or give it more shared memory (docker run --shm-size=8g, or"
    " --ipc=host)"
)


def check_shared_memory(workers: int, batch_bytes: int) -> None:
    """Refuse loader processes that could not hand over one batch each.

    Args:
        workers: Loader processes.
        batch_bytes: Least size of a batch.

    Raises:
        UserError: The sentence says how much there is and what to set.
    """
    if not workers or not SHARED_MEMORY.is_dir():
        return
    free = shutil.disk_usage(SHARED_MEMORY).free
    need = workers * (batch_bytes + SEMAPHORE_BYTES)
    if free < need:
        raise UserError(
            f"datamodule.num_workers={workers} needs at least {_megabytes(need)} of shared memory,"
            f" and {SHARED_MEMORY} has {_megabytes(free)} free on this machine; {MEND}"
        )


def shared_memory_error(error: Exception) -> UserError | None:
    """Return a refusal that names the key for an error of shared memory, else None.

    Args:
        error: The error that ended the run.
    """
    said = str(error)
    if (
        not isinstance(error, RuntimeError)
        or not FAILURE.search(said)
        or "Too many open files" in said  # which another limit mends
    ):
        return None
    return UserError(
        "the loader processes (datamodule.num_workers) ran out of shared memory, or may not use"
        f" it, on this machine; {MEND}"
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2g} MB" if size < 1e8 else f"{size / 1e6:.0f} MB"
