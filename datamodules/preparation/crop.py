"""do=[crop]: square crops around the lesions of train, as masks and a meta JSON.

The user's own images are not copied.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pycocotools import mask as coco_mask
from rich.progress import track

from datamodules.arguments import NonNegativeFloat, check_value
from datamodules.errors import ManifestError
from datamodules.formats.file_names import safe_file_names
from datamodules.formats.meta_json import write_meta_json
from datamodules.formats.rle import decode_rle
from datamodules.loading.cache_builder import check_mask_size, crop_square
from datamodules.manifest.manifest import Manifest
from datamodules.manifest.validation import check_inverted_masks
from datamodules.preparation.export import (
    META_FILE,
    build_meta_manifest,
    check_has_masks,
    publish_folder,
    write_png,
)

if TYPE_CHECKING:
    from datamodules.base import ManifestDataModule

MIN_SIDE = 0.25  # smallest side of a crop, as a fraction of the image's shorter side


@dataclass(frozen=True)
class LesionBox:
    """Location of a row's lesion in its image.

    Attributes:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        share: Share of the image's pixels in the lesion, 0 without a lesion.
        box: Top, left, height and width in pixels, or None.
    """

    height: int
    width: int
    share: float
    box: tuple[int, int, int, int] | None


def crop_dataset(
    data: "ManifestDataModule", folder: Path, padding: float = 0.25, seed: int = 0
) -> Path:
    """Write `crops/`, `masks/` and `meta.json`.

    `crops/` holds the masks of train's crops (val and test are not cropped), `masks/` the full
    masks that are not files yet.

    Args:
        data: Any data set with masks of one class; it is only read.
        folder: Output folder; missing or empty, and outside the data set.
        padding: Margin on each side of the lesion's box, as a fraction of the box's longer side.
        seed: Seed of the random squares of images without a lesion; their sizes are sampled from
            those of images with a lesion.

    Returns:
        The folder, which `datamodule=table datamodule.root=FOLDER
        datamodule.manifest_name=meta.json datamodule.mask_column=cropped_mask` reads.

    Raises:
        ManifestError: There are no masks or several classes; the data set is cropped already; train
            has no lesion; or masks cover most of most images.
        UserError: Padding or folder is invalid.
    """
    check_value("preparation.padding", padding, NonNegativeFloat)
    with publish_folder(folder, data.root) as place:
        manifest = data.table
        check_has_masks(manifest, "crop")
        if "crop" in manifest.rows:
            raise ManifestError(
                "the data set is cropped already; set datamodule.mask_column=mask to crop it again"
            )
        for part in ("crops", "masks"):
            (place / part).mkdir()
        names = [f"{name}.png" for name in safe_file_names(manifest.rows["id"].tolist())]
        with ThreadPoolExecutor() as pool:
            seen = pool.map(lambda row: _find_lesion(manifest, row), range(len(manifest)))
            lesions = list(track(seen, "measuring lesions", total=len(manifest), transient=True))
            if data.inverted_masks == "refuse":
                shares = np.array([[lesion.share] for lesion in lesions])
                check_inverted_masks(data.root, manifest, shares, None, np.ones(len(manifest)))
            squares = _crop_squares(manifest, lesions, padding, seed)
            done = pool.map(
                lambda row: _write_row(
                    manifest, row, lesions[row], squares.get(row), place, names[row]
                ),
                range(len(manifest)),
            )
            masks = list(track(done, "writing crops", total=len(manifest), transient=True))
        images = [str(Path(image).absolute()) for image in manifest.rows["image"]]
        whole = build_meta_manifest(
            manifest, images, masks, np.array([lesion.share for lesion in lesions])
        )
        whole.rows["cropped_mask"] = [
            str(place / "crops" / name) if row in squares else None
            for row, name in enumerate(names)
        ]
        whole.rows["crop"] = pd.Series(
            [squares.get(row) for row in range(len(manifest))], whole.rows.index, dtype=object
        )
        write_meta_json(whole.rows, whole.group_is == "patient", place / META_FILE)
    return Path(folder)


def square_around_box(lesion: LesionBox, padding: float) -> list[int]:
    """Return [top, left, side] of the square around the lesion's box and its padding.

    Along each axis the square is shifted into the image if it fits, otherwise centered on the
    image.
    """
    if lesion.box is None:
        raise ValueError("no lesion")
    top, left, height, width = lesion.box
    side = max(
        ceil(max(height, width) * (1 + 2 * padding)),
        ceil(min(lesion.height, lesion.width) * MIN_SIDE),
    )
    places = [(top + height / 2, lesion.height), (left + width / 2, lesion.width)]
    return [
        *(_fit_inside(round(center - side / 2), length - side) for center, length in places),
        side,
    ]


def _fit_inside(start: int, room: int) -> int:
    return min(max(start, 0), room) if room >= 0 else room // 2


def _find_lesion(manifest: Manifest, row: int) -> LesionBox:
    height, width = manifest.read_image_size(row)
    rle = manifest.rles(row)[0]
    check_mask_size(manifest, row, [rle["size"]] if rle else [], height, width)
    area = int(coco_mask.area(rle)) if rle else 0
    if not area:
        return LesionBox(height, width, 0.0, None)
    left, top, box_width, box_height = map(int, coco_mask.toBbox(rle))
    return LesionBox(height, width, area / (height * width), (top, left, box_height, box_width))


def _crop_squares(
    manifest: Manifest, lesions: list[LesionBox], padding: float, seed: int
) -> dict[int, list[int]]:
    """Return the square of each row of train."""
    train = manifest.where("train").tolist()
    squares = {row: square_around_box(lesions[row], padding) for row in train if lesions[row].box}
    if not squares:
        raise ManifestError(
            "no train image has a lesion to crop; annotate some, or make a new split with"
            " datamodule.split=group"
        )
    shares = [
        side / min(lesions[row].height, lesions[row].width) for row, (_, _, side) in squares.items()
    ]
    for row in train:
        if row not in squares:
            random, image = np.random.default_rng([seed, row]), lesions[row]
            side = max(1, round(random.choice(shares) * min(image.height, image.width)))
            start = [
                int(random.integers(length - side + 1)) if side <= length else (length - side) // 2
                for length in (image.height, image.width)
            ]
            squares[row] = [*start, side]
    return squares


def _write_row(
    manifest: Manifest,
    row: int,
    lesion: LesionBox,
    square: list[int] | None,
    place: Path,
    name: str,
) -> str | None:
    """Write one row's masks.

    Returns:
        The path of the full mask, or None without a lesion and without a file.
    """
    own = (
        None if manifest.swap_masks else manifest.rows["mask"].iat[row]
    )  # a swapped mask has no file yet
    if square or (lesion.box and not isinstance(own, str)):
        mask = decode_rle(manifest.rles(row), lesion.height, lesion.width) * np.uint8(255)
        if square:
            write_png(place / "crops" / name, crop_square(mask, square))
        if lesion.box and not isinstance(own, str):
            write_png(place / "masks" / name, mask)
    if isinstance(own, str):
        return str(Path(own).absolute())
    return str(place / "masks" / name) if lesion.box else None
