"""Writers of pneumothorax phantoms in the two PNG layouts in which SIIM-ACR is redistributed."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np


@dataclass(frozen=True)
class Drawn:
    """A drawn image with its mask.

    Attributes:
        name: Its ImageId.
        patient: Whose image it is.
        image: uint8 `height x width`.
        mask: uint8 0/1 `height x width`, pleural air.
        test: Whether its patient is held out.
    """

    name: str
    patient: str
    image: np.ndarray
    mask: np.ndarray
    test: bool

    @property
    def split(self) -> str:
        """Return `train` or `test`."""
        return "test" if self.test else "train"


def write_png(root: Path, drawn: Iterable[Drawn], random: np.random.Generator) -> None:
    """Write png_images, png_masks (0 and 255) and stage_1_{train,test}_images.csv.

    As in the real set, the file names reveal the label.

    Args:
        root: An empty folder.
        drawn: The images.
        random: Unused; the layout has nothing to draw.
    """
    rows: dict[str, list[tuple[str, str, int]]] = {"train": [], "test": []}
    for folder in ("png_images", "png_masks"):
        (root / folder).mkdir()
    for one in drawn:
        label = int(one.mask.any())
        name = f"{len(rows[one.split])}_{one.split}_{label}_.png"
        rows[one.split].append((name, one.name, label))
        cv2.imwrite(str(root / "png_images" / name), one.image)
        cv2.imwrite(str(root / "png_masks" / name), one.mask * 255)
    for split, own in rows.items():
        write_table(
            root / f"stage_1_{split}_images.csv", [("new_filename", "ImageId", "has_pneumo"), *own]
        )


def write_tree(root: Path, drawn: Iterable[Drawn], random: np.random.Generator) -> None:
    """Write siim-acr-png/{images,masks}/{train,test}/*.png, masks of 0 and 255.

    Args:
        root: An empty folder.
        drawn: The images.
        random: Unused; the layout has nothing to draw.
    """
    for kind in ("images", "masks"):
        for split in ("train", "test"):
            (root / "siim-acr-png" / kind / split).mkdir(parents=True)
    for one in drawn:
        for kind, pixels in (("images", one.image), ("masks", one.mask * 255)):
            cv2.imwrite(str(root / "siim-acr-png" / kind / one.split / f"{one.name}.png"), pixels)


def write_table(path: Path, rows: Iterable[tuple[object, ...]]) -> None:
    """Write a CSV whose first row is the header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
