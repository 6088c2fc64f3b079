"""Writer of checkpoints: complete on the disk before they take the place of the earlier file."""

from pathlib import Path
from typing import IO, Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from datamodules.formats.atomic_write import open_atomic


def write_tensors(path: Path, content: Any) -> None:
    """Write tensors and plain values with torch.save; the earlier file stays until the end.

    The file is written next to `path`, not in TMPDIR, and not held in memory as a whole.

    Args:
        path: File to write.
        content: What torch.load will return.

    Raises:
        OSError: The file cannot be written, such as on a full disk.
    """
    with open_atomic(path) as file:
        kept: Any = _ErrorKeepingFile(file)
        try:
            torch.save(content, kept)
        except RuntimeError as error:  # PyTorch's own, of a file that could not be written
            if kept.error is not None:
                raise kept.error from error
            raise


class _ErrorKeepingFile:
    """File that keeps the error of a write, which PyTorch replaces by one of its own."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write to the file."""
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        """Flush the file."""
        self._file.flush()


class DurableCheckpointIO(TorchCheckpointIO):
    """Lightning's writer of checkpoints, except that no interruption damages the earlier file.

    Lightning collects a checkpoint in memory and in TMPDIR, and then copies it over the file if
    TMPDIR is on another disk. ModelCheckpoint, `trainer.save_checkpoint` and DDP use this writer,
    and FSDP does with complete checkpoints (state_dict_type=full).
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint; see `write_tensors`."""
        write_tensors(Path(path), checkpoint)
