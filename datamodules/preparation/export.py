"""do=[export]: a data set of any layout as 8-bit PNGs with a meta JSON.

`datamodule=table` reads them.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from rich.progress import track

from datamodules.checks import check_inverted
from datamodules.formats.meta_json import write_meta
from datamodules.formats.rle import decode
from datamodules.images import read_image
from datamodules.letterbox import resize_by, resize_to
from datamodules.manifest import Manifest
from datamodules.picture import check_size, load_view
from datamodules.preparation.publishing import file_names, publish_folder, write_png
from datamodules.refusal import ManifestError, UserError
from datamodules.strata import area_quartiles

if TYPE_CHECKING:
    from datamodules.base import ManifestDataModule

META_FILE = "meta.json"


def export_dataset(data: "ManifestDataModule", folder: Path, size: int | None) -> Path:
    """Write `images/`, `masks/` (0 and 255, only of images with a lesion) and `meta.json`.

    Args:
        data: Any data set with masks of one class; its split, groups and cls_prob are written too.
        folder: Missing or empty, and not in the data set.
        size: The longest side in pixels of the written images, area-averaged; None keeps each
            image's own.

    Returns:
        The folder, for `datamodule=table datamodule.root=FOLDER
        datamodule.manifest_name=meta.json`.

    Raises:
        ManifestError: no masks, several classes, an image or a mask that cannot be used, or masks
            that cover most of most images.
        Refusal: an invalid size or folder.
    """
    if size is not None and size < 1:
        raise UserError(
            f"a longest side of {size} pixels cannot be written; take a number above 0, or null for"
            " each image's own"
        )
    with publish_folder(folder, data.root) as place:
        manifest = data.table
        check_has_masks(manifest, "export")
        for part in ("images", "masks"):
            (place / part).mkdir()
        names = [f"{name}.png" for name in file_names(manifest.rows["id"].tolist())]
        with ThreadPoolExecutor() as pool:
            done = pool.map(
                lambda row: _write_rows(manifest, row, data.channels, size, place, names[row]),
                range(len(manifest)),
            )
            area = np.array(
                list(track(done, "writing images", total=len(manifest), transient=True))
            )
        if data.inverted_masks == "refuse":
            check_inverted(data.root, manifest, area[:, None], None, np.ones(len(manifest)))
        masks = [
            str(place / "masks" / name) if share > 0 else None
            for name, share in zip(names, area, strict=True)
        ]
        written = meta_entry(
            manifest, [str(place / "images" / name) for name in names], masks, area
        )
        write_meta(written.rows, written.group_is == "patient", place / META_FILE)
    return Path(folder)


def check_has_masks(manifest: Manifest, step: str) -> None:
    """Refuse a data set that a meta JSON of one class cannot describe."""
    if "mask" not in manifest.rows:
        raise ManifestError(
            f"do=[{step}] writes masks, and this data set has none; name a data set for"
            " segmentation by datamodule=..."
        )
    if len(manifest.classes) != 1:
        raise ManifestError(
            f"do=[{step}] writes masks of one class, and this data set has"
            f" {', '.join(manifest.classes)}; name one with one class"
        )


def meta_entry(
    manifest: Manifest, images: list[str], masks: list[str | None], area: np.ndarray
) -> Manifest:
    """Return the manifest with other files, and with has_pnx and strata by its masks.

    Args:
        manifest: With its final split.
        images: Path of each row's image.
        masks: Path of each row's mask, or None.
        area: Each lesion's share of its image, 0 for none; the quartiles are those of train.
    """
    rows = manifest.rows[
        [name for name in ("id", "group", "split", "cls_prob") if name in manifest.rows]
    ].copy()
    rows["image"] = images
    rows["mask"] = pd.Series(masks, rows.index, dtype=object)
    rows["label"] = (area > 0).astype(int)
    rows["stratum"] = area_quartiles(area, (rows["split"] == "train").to_numpy())
    return Manifest(rows, manifest.classes, manifest.group_is)


def _write_rows(
    manifest: Manifest, row: int, channels: int, size: int | None, place: Path, name: str
) -> float:
    """Write one row's files and return the lesion's share of the image."""
    pixels = load_view(
        manifest, row, read_image(Path(str(manifest.rows["image"].iat[row])), channels)
    )
    height, width = pixels.shape[:2]
    rles = manifest.rles(row)
    check_size(manifest, row, [rle["size"] for rle in rles if rle], height, width)
    truth = decode(rles, height, width)
    new = (height, width) if size is None else resize_by(height, width, size)
    write_png(place / "images" / name, resize_to(pixels, *new))
    if truth.any():
        write_png(place / "masks" / name, _exported_area(truth, *new))
    return float(truth.mean())


def _exported_area(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a 0/1 mask to 0/255, set where at least half of a pixel is covered.

    It is never empty: a tiny lesion keeps its most covered pixel.
    """
    share = resize_to(mask.astype(np.float32), height, width)
    return np.uint8(255) * (share >= min(0.5, float(share.max())))
