"""do=[export]: images, masks and tables for other tools."""

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image
from rich.progress import track

from datamodules.arguments import PositiveInt, check_value
from datamodules.errors import ManifestError, UserError
from datamodules.formats.file_names import safe_file_names
from datamodules.formats.gray_levels import Window
from datamodules.formats.meta_json import write_meta_json
from datamodules.formats.rle import decode_rle
from datamodules.loading.cache_builder import check_mask_size, load_view
from datamodules.loading.letterbox import fit_size, resize_image
from datamodules.manifest.manifest import Manifest
from datamodules.manifest.validation import check_inverted_masks
from datamodules.sampling.strata import area_quartiles

if TYPE_CHECKING:
    from datamodules.base import ManifestDataModule


@contextmanager
def publish_folder(folder: Path, root: Path) -> Iterator[Path]:
    """Yield a temporary folder, renamed to `folder` on success and removed on failure.

    Args:
        folder: Output folder; missing or empty.
        root: The data set's folder, below which nothing is written.

    Raises:
        UserError: `folder` is not empty, is `root` or below it, or cannot be created.
    """
    final = Path(folder).expanduser().absolute()
    if final.resolve().is_relative_to(root.resolve()):
        raise UserError(
            f"{final} is inside the data set {root}, where nothing is ever written; name a folder"
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
            f"{final} cannot be created ({error.strerror}); name a folder that you may write to"
        ) from error
    try:
        yield unfinished
        unfinished.rename(final)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 `H x W x 1` or `H x W x 3` as a PNG."""
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(path)


META_FILE = "meta.json"


def export_dataset(data: "ManifestDataModule", folder: Path, size: int | None) -> Path:
    """Write `images/`, `masks/` (0 and 255, only of images with a lesion) and `meta.json`.

    Args:
        data: Any data set with masks of one class; its split, groups and cls_prob are written too.
        folder: Output folder; missing or empty, and outside the data set.
        size: The longest side in pixels of the written images, area-averaged; None keeps each
            image's own.

    Returns:
        The folder, which `datamodule=table datamodule.root=FOLDER
        datamodule.manifest_name=meta.json` reads.

    Raises:
        ManifestError: There are no masks or several classes; an image or a mask cannot be used; or
            masks cover most of most images.
        UserError: Size or folder is invalid.
    """
    check_value("preparation.size", size, PositiveInt | None)
    with publish_folder(folder, data.root) as place:
        manifest = data.table
        check_has_masks(manifest, "export")
        for part in ("images", "masks"):
            (place / part).mkdir()
        names = [f"{name}.png" for name in safe_file_names(manifest.rows["id"].tolist())]
        find_window = _lazy_window(data)
        with ThreadPoolExecutor() as pool:
            done = pool.map(
                lambda row: _write_row(
                    manifest, row, data.channels, size, place, names[row], find_window
                ),
                range(len(manifest)),
            )
            area = np.array(
                list(track(done, "writing images", total=len(manifest), transient=True))
            )
        if data.inverted_masks == "refuse":
            check_inverted_masks(data.root, manifest, area[:, None], None, np.ones(len(manifest)))
        masks = [
            str(place / "masks" / name) if share > 0 else None
            for name, share in zip(names, area, strict=True)
        ]
        written = build_meta_manifest(
            manifest, [str(place / "images" / name) for name in names], masks, area
        )
        write_meta_json(written.rows, written.group_is == "patient", place / META_FILE)
    return Path(folder)


def check_has_masks(manifest: Manifest, step: str) -> None:
    """Refuse a data set that a meta JSON of one class cannot describe."""
    if "mask" not in manifest.rows:
        raise ManifestError(
            f"do=[{step}] writes masks, and this data set has none; choose a data set for"
            " segmentation with datamodule=..."
        )
    if len(manifest.classes) != 1:
        raise ManifestError(
            f"do=[{step}] writes masks of one class, and this data set has"
            f" {', '.join(manifest.classes)}; choose one with one class"
        )


def build_meta_manifest(
    manifest: Manifest, images: list[str], masks: list[str | None], area: np.ndarray
) -> Manifest:
    """Return the manifest with other files, and with labels and strata from its masks.

    Args:
        manifest: Manifest with its final split.
        images: Path of each row's image.
        masks: Path of each row's mask, or None.
        area: Each lesion's fraction of its image, 0 for none; the quartiles are those of train.
    """
    rows = manifest.rows[
        [name for name in ("id", "group", "split", "cls_prob") if name in manifest.rows]
    ].copy()
    rows["image"] = images
    rows["mask"] = pd.Series(masks, rows.index, dtype=object)
    rows["label"] = (area > 0).astype(int)
    rows["stratum"] = area_quartiles(area, (rows["split"] == "train").to_numpy())
    return Manifest(rows, manifest.classes, manifest.group_is)


def _lazy_window(data: "ManifestDataModule") -> Callable[[], Window | None]:
    """Return a function that threads may call for the window of a data set.

    Unless the user set one, the first call reads all images, which 8-bit images do not need.
    """
    lock = Lock()
    find = cache(lambda: data.window or data.find_window(data.open_cache()))

    def window() -> Window | None:
        """Return the window, computed by the first thread."""
        with lock:
            return find()

    return window


def _write_row(
    manifest: Manifest,
    row: int,
    channels: int,
    size: int | None,
    place: Path,
    name: str,
    window: Callable[[], Window | None],
) -> float:
    """Write one row's files and return the lesion's fraction of the image.

    Args:
        manifest: Rows of the data set.
        row: Number of the row.
        channels: 1 for gray, 3 for RGB.
        size: See `export_dataset`.
        place: Output folder.
        name: Name of the files.
        window: Function that returns the window of the data set, which takes time. It is called
            only for an image of more than 8 bits.
    """
    view = load_view(manifest, row, channels)
    if channels not in (1, 3):
        raise ManifestError(
            f"do=[export] writes PNGs of one or three channels, and datamodule.channels={channels}"
            " has no such picture; use the files as they are"
        )
    pixels = view.to_uint8(window() if view.levels.deep else None)
    height, width = pixels.shape[:2]
    rles = manifest.rles(row)
    check_mask_size(manifest, row, [rle["size"] for rle in rles if rle], height, width)
    truth = decode_rle(rles, height, width)
    new = (height, width) if size is None else fit_size(height, width, size)
    write_png(place / "images" / name, resize_image(pixels, *new))
    if truth.any():
        write_png(place / "masks" / name, _resize_mask(truth, *new))
    return float(truth.mean())


def _resize_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a 0/1 mask to 0/255; a pixel is 255 if at least half of it is covered.

    The result is never empty: a tiny lesion keeps its most covered pixel.
    """
    share = resize_image(mask.astype(np.float32), height, width)
    return np.uint8(255) * (share >= min(0.5, float(share.max())))
