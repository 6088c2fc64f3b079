"""Checks of the shared memory through which loader processes pass their batches."""

import mmap
import os
import re
import shutil
import sys
import traceback
from collections.abc import Iterator
from multiprocessing.queues import Queue
from pathlib import Path

from datamodules.errors import UserError

SHARED_MEMORY = Path("/dev/shm")
PREFETCH_FACTOR = 4  # batches that a worker prepares ahead
SEMAPHORE_BYTES = 16 * 4096  # semaphores of a worker's queues, one page each
FAILURE = re.compile(  # PyTorch's messages if shared memory is full, missing or not writable
    r"shared memory ?\(shm\)|out of shared memory|shared memory object|unable to mmap .* from file"
    r"|exited unexpectedly with exit code 28"
)
LOST_BATCH = 28  # exit code of a loader process whose batch did not fit into shared memory
# the same for forked processes, as PyTorch does not always know the code; one page that they share
_lost_batch = mmap.mmap(-1, 1)
SHARED_MEMORY_HINT = (
    "set datamodule.num_workers=0, or give it more shared memory (docker run --shm-size=8g, or"
    " --ipc=host)"
)


def check_shared_memory(workers: int, batch_bytes: int) -> None:
    """Refuse loader processes if the shared memory does not hold one batch of each.

    Args:
        workers: Number of loader processes.
        batch_bytes: Smallest size of a batch in bytes.

    Raises:
        UserError: The memory is too small; the message names its size and the key to set.
    """
    if not workers or not SHARED_MEMORY.is_dir():
        return
    free = shutil.disk_usage(SHARED_MEMORY).free
    need = workers * (batch_bytes + SEMAPHORE_BYTES)
    if free < need:
        raise UserError(
            f"datamodule.num_workers={workers} needs at least {_megabytes(need)} of shared memory,"
            f" but {SHARED_MEMORY} has {_megabytes(free)} free on this machine;"
            f" {SHARED_MEMORY_HINT}"
        )


def end_if_batch_is_lost() -> None:
    """Let a loader process end if it cannot pass on a batch.

    Python's queue would print the error and drop the batch, and the run would wait for it forever.
    """

    def end(error: BaseException, batch: object) -> None:
        """End this process; PyTorch then raises an error with its exit code in the main process."""
        lost = FAILURE.search(str(error)) is not None
        if not lost:
            traceback.print_exception(error)
            sys.stderr.flush()
        _lost_batch[0] = int(lost)
        os._exit(LOST_BATCH if lost else 1)

    Queue._on_queue_feeder_error = staticmethod(end)  # type: ignore[attr-defined]


def shared_memory_error(error: Exception) -> UserError | None:
    """Return a UserError that names the key if `error` is due to shared memory, else None.

    Args:
        error: The error that ended the run.
    """
    message = " ".join(map(str, _chain(error)))
    if "Too many open files" in message:  # another limit is the cause
        return None
    of_tensors = isinstance(error, RuntimeError) and FAILURE.search(message)
    of_semaphores = isinstance(error, OSError) and _raised_by_semaphore(error)
    # a process that ended because of it shows in many ways, such as a connection that is reset
    if not _lost_batch[0] and not of_tensors and not of_semaphores:
        return None
    return UserError(
        "the loader processes (datamodule.num_workers) ran out of shared memory, or may not use"
        f" it, on this machine; {SHARED_MEMORY_HINT}"
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what led to it: a worker that died in it `exited unexpectedly`."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _raised_by_semaphore(error: BaseException) -> bool:
    """Return True for an error of the semaphores of a queue, which name no file."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(
        frame.f_code.co_filename.endswith("multiprocessing/synchronize.py") for frame, _ in frames
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2g} MB" if size < 1e8 else f"{size / 1e6:.0f} MB"
