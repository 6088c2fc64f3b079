"""Atomic publishing of a folder, never among the user's own data; and names for its files."""

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image

from datamodules.refusal import UserError

MAX_NAME_LENGTH = 120  # letters of a file name; file systems take 255 bytes


@contextmanager
def publish_folder(folder: Path, root: Path) -> Iterator[Path]:
    """Yield a temporary folder, renamed to `folder` on success and removed on failure.

    Args:
        folder: Missing or empty.
        root: The data set's folder, below which nothing is written.

    Raises:
        Refusal: `folder` holds something, is `root` or below it, or cannot be made.
    """
    final = Path(folder).expanduser().absolute()
    if final.resolve().is_relative_to(root.resolve()):
        raise UserError(
            f"{final} lies in the data set {root}, where nothing is ever written; name a folder"
            " elsewhere"
        )
    if final.exists() and not (final.is_dir() and not any(final.iterdir())):
        raise UserError(
            f"{final} exists already and is not an empty folder; name another folder, or move it"
            " away"
        )
    unfinished = final.with_name(f"{final.name}.{os.getpid()}.tmp")
    try:
        unfinished.mkdir(parents=True, mode=0o700)
    except OSError as error:
        raise UserError(
            f"{final} cannot be made ({error.strerror}); name a folder that you may write to"
        ) from error
    try:
        yield unfinished
        unfinished.rename(final)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def file_names(ids: list[str]) -> list[str]:
    """Return one name per row, of letters, digits and `._-` alone.

    Names that would be equal, ignoring case, get a hash of their id.
    """
    plain = [
        re.sub(r"[^A-Za-z0-9._-]+", "_", id)[:MAX_NAME_LENGTH].lstrip(".") or "_" for id in ids
    ]
    often = Counter(name.lower() for name in plain)
    return [
        name if often[name.lower()] == 1 else f"{name}-{sha256(id.encode()).hexdigest()[:12]}"
        for name, id in zip(plain, ids, strict=True)
    ]


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 `H x W x 1` or `H x W x 3`."""
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(path)
