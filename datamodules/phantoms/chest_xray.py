"""Phantom radiographs in the layout of Kaggle's chest_xray.

They have the file names, the leaks and the confounded markers of real sets.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from datamodules.arguments import Fraction, NonNegativeInt, PositiveInt, validated
from datamodules.phantoms.chest_anatomy import ChestPatient
from datamodules.phantoms.chest_findings import draw_radiograph, sample_patient
from datamodules.phantoms.folder import write_once, write_picture

CLASSES = ("NORMAL", "PNEUMONIA")
IMAGES_PER_PATIENT = (0.36, 0.30, 0.17, 0.11, 0.06)
UNRELATED_FINDINGS = ("device", "enlarged_heart")
VAL_IMAGES = 8  # of each class, as in the original


@dataclass(frozen=True)
class _PatientCase:
    """Patient with the file names of its images and their common findings."""

    patient: ChestPatient
    names: tuple[str, ...]
    findings: tuple[str, ...]
    pneumonia: bool


@validated
def write(
    root: Path,
    patients: PositiveInt = 240,
    size: PositiveInt = 224,
    confounding: Fraction = 0.8,
    seed: NonNegativeInt = 0,
) -> None:
    """Write `{train,val,test}/{NORMAL,PNEUMONIA}/*.jpeg` below `root`, once.

    As in the real set, a patient's number is in its file names, some patients have images in train
    and in test, val is tiny, a few files are RGB, a `.DS_Store` is among them, and the letters in
    the corner correlate with the class.

    Args:
        root: Folder to write; it is not changed if it already holds the same phantoms.
        patients: Number of patients; three in five have pneumonia. At least 24 fill every folder.
        size: Approximate longest side of the images in pixels.
        confounding: Fraction of images with the marker of their class ("AP PORTABLE" for pneumonia,
            "R" for normal); the others have the marker of the other class, so 0.5 is uninformative.
        seed: Source of everything random.
    """
    numbers = {
        "patients": patients,
        "size": size,
        "confounding": confounding,
        "seed": seed,
        "version": 1,
    }
    with write_once(root, numbers) as folder:
        if folder is None:
            return
        ill = round(0.6 * patients)
        for index, count in enumerate((patients - ill, ill)):
            random = np.random.default_rng([seed, index])
            cases = _sample_cases(random, count, pneumonia=bool(index))
            for split in ("train", "val", "test"):
                (folder / split / CLASSES[index]).mkdir(parents=True)
            for case, name, split in _assign_splits(random, cases):
                _write_image(
                    random, folder / split / CLASSES[index] / name, case, size, confounding
                )
        (folder / "train/PNEUMONIA/.DS_Store").write_bytes(b"\0\0\0\1Bud1")


def _sample_cases(random: np.random.Generator, count: int, pneumonia: bool) -> list[_PatientCase]:
    """Sample patients with unique numbers.

    Pneumonia images are numbered across all patients, as in the real set.
    """
    files = itertools.count(1)
    cases = []
    for number in np.cumsum(random.integers(1, 6, count)):
        images = int(random.choice(5, p=IMAGES_PER_PATIENT)) + 1
        names = (
            _pneumonia_names(random, number, images, files)
            if pneumonia
            else _normal_names(random, number, images)
        )
        findings = tuple(name for name in UNRELATED_FINDINGS if random.random() < 0.12)
        cases.append(_PatientCase(sample_patient(random), tuple(names), findings, pneumonia))
    return cases


def _pneumonia_names(
    random: np.random.Generator, number: int, images: int, files: Iterator[int]
) -> list[str]:
    germs = random.choice(
        ["bacteria", "virus"], p=[0.65, 0.35], size=1 if random.random() < 0.95 else images
    )
    return [f"person{number}_{germs[i % len(germs)]}_{next(files)}.jpeg" for i in range(images)]


def _normal_names(random: np.random.Generator, number: int, images: int) -> list[str]:
    pattern = random.choice(["IM", "NORMAL2-IM", "NORMAL"], p=[0.35, 0.5, 0.15])
    if pattern == "NORMAL":
        return [f"NORMAL-{number}-{i + 1:04d}.jpeg" for i in range(images)]
    return [
        f"{pattern}-{number:04d}-0001{f'-{i + 1:04d}' if i else ''}.jpeg" for i in range(images)
    ]


def _assign_splits(
    random: np.random.Generator, cases: list[_PatientCase]
) -> Iterator[tuple[_PatientCase, str, str]]:
    """Yield every image with its split; one patient in 25 leaks from test into train."""
    total = sum(len(case.names) for case in cases)
    left = {"val": min(VAL_IMAGES, max(2, total // 12)), "test": max(2, round(0.12 * total))}
    shuffled = [cases[i] for i in random.permutation(len(cases))]
    leaking = [case for case in shuffled if len(case.names) > 1][: max(1, len(cases) // 25)]
    for case in leaking:
        left["test"] -= 1
        yield from zip(
            itertools.repeat(case),
            case.names,
            ["test", *["train"] * (len(case.names) - 1)],
            strict=False,
        )
    for case in shuffled:
        for name in () if case in leaking else case.names:
            split = next((split for split, count in left.items() if count > 0), "train")
            if split in left:
                left[split] -= 1
            yield case, name, split


def _write_image(
    random: np.random.Generator, path: Path, case: _PatientCase, size: int, confounding: float
) -> None:
    longest, aspect = size * random.uniform(0.9, 1.3), random.uniform(0.8, 1.5)
    height, width = round(longest / max(1, aspect)), round(longest * min(1, aspect))
    usual = bool(random.random() < confounding)
    marker = "AP PORTABLE" if usual == case.pneumonia else "R"
    findings = (*case.findings, "opacity") if case.pneumonia else case.findings
    pixels = draw_radiograph(random, height, width, case.patient, findings, marker)
    if random.random() < 0.05:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    write_picture(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(78, 97))])
