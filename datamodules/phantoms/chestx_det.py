"""Phantom radiographs in the layout of ChestX-Det, with its irregularities.

It has two JSONs of outlined findings, with the images next to them.
"""

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from datamodules.arguments import NonNegativeFloat, NonNegativeInt, PositiveInt, validated
from datamodules.phantoms.chest_findings import (
    FINDING_KINDS,
    AnnotatedRadiograph,
    draw_annotated_radiograph,
    sample_patient,
)
from datamodules.phantoms.folder import write_once, write_picture

P_NO_FINDING = 0.17  # fraction of images without findings; 611 of 3578 in the real set
FINDING_PREVALENCE = {
    "Cardiomegaly": 0.3,
    "Consolidation": 0.55,
    "Effusion": 0.5,
    "Mass": 0.25,
    "Nodule": 0.3,
    "Pneumothorax": 0.25,
}  # probabilities in the other images
FIRST_NUMBER = 36199  # the number in the first file's name, as in the real set


@validated
def write(
    root: Path,
    train: PositiveInt = 240,
    test: PositiveInt = 60,
    size: PositiveInt = 160,
    contrast: NonNegativeFloat = 1.0,
    seed: NonNegativeInt = 0,
) -> None:
    """Write ChestX_Det_{train,test}.json and {train,test}_data/*.png below `root`, once.

    As in the real set, findings overlap, one outline may belong to two classes, both splits share
    one numbering of file names, a box differs from its polygon, and one finding is annotated twice.
    As in real downloads, a polygon is 2 px outside, an annotated image is missing, and an image is
    not annotated.

    Args:
        root: Folder to write; it is not changed if it already holds the same phantoms.
        train: Images in train without the irregular ones; one per patient.
        test: Images in test.
        size: Side of the images in pixels.
        contrast: Contrast of faint findings, see `draw_annotated_radiograph`.
        seed: Source of everything random.
    """
    numbers = {
        "train": train,
        "test": test,
        "size": size,
        "contrast": contrast,
        "seed": seed,
        "version": 1,
    }
    with write_once(root, numbers) as folder:
        if folder is None:
            return
        order = np.random.default_rng([seed, 1]).permutation(train + test)
        for split, places in (("train", np.sort(order[:train])), ("test", np.sort(order[train:]))):
            (folder / f"{split}_data").mkdir()
            entries = []
            for place, film in zip(places, draw_images(places, size, contrast, seed), strict=True):
                entries.append(_build_entry(f"{FIRST_NUMBER + place}.png", film, place))
                write_picture(str(folder / f"{split}_data" / entries[-1]["file_name"]), film.image)
            if split == "train":
                _add_irregularities(folder, entries, train + test)
            (folder / f"ChestX_Det_{split}.json").write_text(json.dumps(entries))


def draw_images(
    numbers: Collection[int], size: int, contrast: float, seed: int
) -> Iterator[AnnotatedRadiograph]:
    """Draw and yield the images of these numbers, each from a seed of its own; see `write`."""
    for place in numbers:
        random = np.random.default_rng([seed, 0, place])
        kinds = (
            [kind for kind in FINDING_KINDS if random.random() < FINDING_PREVALENCE[kind]]
            if random.random() >= P_NO_FINDING
            else []
        )
        yield draw_annotated_radiograph(random, size, size, sample_patient(random), kinds, contrast)


def trace_outline(mask: np.ndarray) -> list[list[int]]:
    """Trace the border of one piece without holes along its pixels' corners.

    Filling the outline reproduces the piece exactly.

    Args:
        mask: uint8 0/1 `height x width`.

    Returns:
        `[x, y]` of each corner in pixels.
    """
    doubled = np.kron(mask, np.ones((2, 2), np.uint8))  # doubled to distinguish a pixel's two sides
    contours, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    corners = (max(contours, key=cv2.contourArea)[:, 0] + 1) // 2
    corners = corners[np.any(corners != np.roll(corners, 1, 0), 1)]
    before, after = corners - np.roll(corners, 1, 0), np.roll(corners, -1, 0) - corners
    return corners[np.any(before != after, 1)].tolist()


def _build_entry(name: str, radiograph: AnnotatedRadiograph, number: int) -> dict[str, Any]:
    findings = [(kind, trace_outline(mask)) for kind, mask in radiograph.findings]
    if number % 5 == 0:  # annotators outline consolidation and fluid together at times
        findings += [
            ("Effusion", polygon) for kind, polygon in findings if kind == "Consolidation"
        ][:1]
    boxes = [
        [*np.min(polygon, 0).tolist(), *np.max(polygon, 0).tolist()] for _, polygon in findings
    ]
    return {
        "file_name": name,
        "syms": [kind for kind, _ in findings],
        "boxes": boxes,
        "polygons": [polygon for _, polygon in findings],
    }


def _add_irregularities(folder: Path, entries: list[dict[str, Any]], number: int) -> None:
    """Add one of each irregularity to train."""
    ill = [entry for entry in entries if entry["syms"]]
    ill[0]["boxes"][0][2] += 5
    for part in ("syms", "boxes", "polygons"):
        ill[1][part].append(ill[1][part][0])
    polygon = ill[2]["polygons"][0]
    leftmost = min(range(len(polygon)), key=lambda i: polygon[i][0])
    polygon[leftmost] = [-2, polygon[leftmost][1]]
    entries.append(
        {"file_name": f"{FIRST_NUMBER + number}.png", "syms": [], "boxes": [], "polygons": []}
    )
    blank = np.random.default_rng(number).integers(0, 255, (32, 32), np.uint8)
    write_picture(str(folder / "train_data" / f"{FIRST_NUMBER + number + 1}.png"), blank)
