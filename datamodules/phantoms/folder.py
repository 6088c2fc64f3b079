"""Atomic writing of a phantom folder, locked against other processes."""

import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from filelock import FileLock

from datamodules.errors import UserError
from datamodules.file_errors import file_error

MARKER_FILE = "phantoms.json"


@contextmanager
def write_once(root: Path, parameters: dict[str, Any]) -> Iterator[Path | None]:
    """Yield an empty folder to write into, or None if `root` already holds these phantoms.

    Messages on stderr say that phantoms are drawn, and how long it took.

    Args:
        root: Final folder; phantoms with other parameters in it are replaced, anything else is
            never changed.
        parameters: Everything that the phantoms depend on.

    Raises:
        UserError: `root` exists and holds no phantoms, or the disk is full or cannot be written.
    """
    mark = root / MARKER_FILE
    _refuse_real_data(root)  # before a lock file is written beside it
    with _explained_errors(root):
        root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{root}.lock"), _explained_errors(root):
        _refuse_real_data(root)
        if mark.is_file() and json.loads(mark.read_text()) == parameters:
            yield None
            return
        fresh = root.with_name(root.name + ".tmp")
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            fresh.mkdir(parents=True)
            print(f"phantoms are drawn first, once, into {root}", file=sys.stderr, flush=True)
            began = time.monotonic()
            yield fresh
            print(f"phantoms drawn in {time.monotonic() - began:.0f} s", file=sys.stderr)
            (fresh / MARKER_FILE).write_text(json.dumps(parameters))
            shutil.rmtree(root, ignore_errors=True)
            fresh.rename(root)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


@contextmanager
def _explained_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        fix = "set paths.cache, or datamodule.root, to a folder that can be used"
        raise file_error(error, root, fix) or error from error


def write_picture(path: str | Path, pixels: np.ndarray, settings: Sequence[int] = ()) -> None:
    """Write a picture in the format of its suffix.

    Args:
        path: The file.
        pixels: uint8, `H x W` or `H x W x 3` (blue, green, red).
        settings: Settings of OpenCV's encoder.

    Raises:
        OSError: It cannot be written, which OpenCV's own function would not tell.
    """
    encoded = cv2.imencode(Path(path).suffix, pixels, settings)[1]
    Path(path).write_bytes(encoded.tobytes())


def _refuse_real_data(root: Path) -> None:
    if root.is_dir() and not (root / MARKER_FILE).is_file() and any(root.iterdir()):
        raise UserError(
            f"{root} holds files that are not phantoms; set datamodule.root to a new folder (real"
            " data is never overwritten), or take experiment=segmentation or classification for"
            " your own data"
        )
