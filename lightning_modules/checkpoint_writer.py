"""Writer of checkpoints: complete on the disk before they take the place of the earlier file."""

from pathlib import Path
from typing import Any

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
        torch.save(content, file)


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
