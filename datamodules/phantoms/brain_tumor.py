"""Phantom MRI slices as a Roboflow COCO export, with the irregularities of real exports."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from datamodules.arguments import Count, Whole, validated
from datamodules.images import read_image
from datamodules.phantoms.brain import draw_slice
from datamodules.phantoms.folder import written_once

FOLDERS = ("train", "valid", "test")


@validated
def write(
    root: Path,
    train: Count = 120,
    valid: Count = 40,
    test: Count = 60,
    size: Count = 192,
    seed: Whole = 0,
) -> None:
    """Write `train/ valid/ test/` below `root`, once.

    Among them, as in the real export: ids that restart in every split, an unused twin category,
    boxes' areas, images without annotation, exact duplicate annotations, lesions in two parts, a
    polygon a pixel outside, `.rf.` copies of one original, one of them in train and in test.

    Args:
        root: The folder to write; left alone when it holds the same phantoms already.
        train: Images in train, irregularities not counted.
        valid: Images in valid.
        test: Images in test.
        size: Side of the pictures in pixels.
        seed: Source of everything random.
    """
    numbers = {
        "train": train,
        "valid": valid,
        "test": test,
        "size": size,
        "seed": seed,
        "version": 3,
    }
    with written_once(root, numbers) as folder:
        if folder is not None:
            for number, name in enumerate(FOLDERS):
                _Export(folder / name, np.random.default_rng([seed, number]), size).write(
                    numbers[name]
                )
            _straddle(folder)


class _Export:
    """Export of one split."""

    def __init__(self, folder: Path, random: np.random.Generator, size: int) -> None:
        self.folder, self.random, self.size = folder, random, size
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        folder.mkdir(parents=True)

    def write(self, number: int) -> None:
        for index in range(number):
            parts = 2 if index % 20 == 7 else 1
            drawn = draw_slice(self.random, self.size, parts=parts)
            image = self._add_image(f"p{self.folder.name}{index}", drawn.image)
            self._annotate(image, drawn.mask)
            if index % 25 == 3:
                self.annotations.append(
                    self.annotations[-1] | {"id": len(self.annotations)}
                )  # exact duplicate
            if index % 30 == 11:
                twin = self._add_image(
                    f"p{self.folder.name}{index}", drawn.image
                )  # a copy of one original, encoded again
                self._annotate(twin, drawn.mask)
        for index in range(max(1, number // 12)):
            self._add_image(
                f"u{self.folder.name}{index}", draw_slice(self.random, self.size).image
            )  # nobody annotated it
        self._poke_out()
        _write_json(self.folder, self.images, self.annotations)

    def _add_image(self, original: str, pixels: np.ndarray) -> dict[str, Any]:
        name = f"{original}_jpg.rf.{self.random.bytes(16).hex()}.jpg"
        cv2.imwrite(
            str(self.folder / name),
            pixels,
            [cv2.IMWRITE_JPEG_QUALITY, int(self.random.integers(85, 96))],
        )
        self.images.append(
            {
                "id": len(self.images),
                "license": 1,
                "file_name": name,
                "height": self.size,
                "width": self.size,
            }
        )
        return self.images[-1]

    def _annotate(self, image: dict[str, Any], mask: np.ndarray) -> None:
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_TC89_L1)
        for contour in contours:
            if len(contour) < 3:
                continue
            x, y, width, height = map(float, cv2.boundingRect(contour))
            self.annotations.append(
                {
                    "id": len(self.annotations),
                    "image_id": image["id"],
                    "category_id": 1,
                    "bbox": [x, y, width, height],
                    "area": width * height,
                    "segmentation": [[float(value) for value in contour.ravel()]],
                    "iscrowd": 0,
                }
            )

    def _poke_out(self) -> None:
        """Move the leftmost point of the first lesion a pixel outside the image."""
        polygon = self.annotations[0]["segmentation"][0]
        leftmost = min(range(0, len(polygon), 2), key=lambda i: polygon[i])
        polygon[leftmost] = -1.0


def _write_json(folder: Path, images: list, annotations: list) -> None:
    categories = [
        {"id": 0, "name": "Tumor", "supercategory": "none"},
        {"id": 1, "name": "Tumor", "supercategory": "Tumor"},
    ]
    content = {
        "info": {"description": "phantoms"},
        "licenses": [],
        "categories": categories,
        "images": images,
        "annotations": annotations,
    }
    (folder / "_annotations.coco.json").write_text(json.dumps(content))


def _straddle(root: Path) -> None:
    """Put a copy of a test original into train, under another hash."""
    test = json.loads((root / "test/_annotations.coco.json").read_text())
    train = json.loads((root / "train/_annotations.coco.json").read_text())
    source = test["images"][0]
    name = source["file_name"].split(".rf.")[0] + f".rf.{'0' * 32}.jpg"
    pixels = read_image(root / "test" / source["file_name"], channels=1)
    cv2.imwrite(str(root / "train" / name), pixels, [cv2.IMWRITE_JPEG_QUALITY, 80])
    image = source | {"id": len(train["images"]), "file_name": name}
    own = next(a for a in test["annotations"] if a["image_id"] == source["id"])
    train["annotations"].append(own | {"id": len(train["annotations"]), "image_id": image["id"]})
    _write_json(root / "train", [*train["images"], image], train["annotations"])
