"""Pneumothorax phantoms in the three SIIM-ACR layouts."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, SecondaryCaptureImageStorage

from datamodules.arguments import Fraction, NonNegativeFloat, NonNegativeInt, PositiveInt, validated
from datamodules.formats.rle import EMPTY_TEXT, encode_siim
from datamodules.phantoms.chest_anatomy import ChestPatient
from datamodules.phantoms.chest_findings import draw_pneumothorax, sample_area, sample_patient
from datamodules.phantoms.folder import write_once, write_picture


@dataclass(frozen=True)
class PhantomImage:
    """Synthetic image with its mask.

    Attributes:
        name: ImageId of the image.
        patient: Name of the patient.
        image: uint8 `height x width`.
        mask: Pleural air, uint8 0/1 `height x width`.
        test: True if its patient is held out.
    """

    name: str
    patient: str
    image: np.ndarray
    mask: np.ndarray
    test: bool

    @property
    def split(self) -> str:
        """Split of the image: `train` or `test`."""
        return "test" if self.test else "train"


def write_png(root: Path, images: Iterable[PhantomImage], random: np.random.Generator) -> None:
    """Write png_images, png_masks (0 and 255) and stage_1_{train,test}_images.csv.

    As in the real set, the file names reveal the label.

    Args:
        root: Empty folder to write to.
        images: The images.
        random: Unused, because the layout has nothing random.
    """
    rows: dict[str, list[tuple[str, str, int]]] = {"train": [], "test": []}
    for folder in ("png_images", "png_masks"):
        (root / folder).mkdir()
    for one in images:
        label = int(one.mask.any())
        name = f"{len(rows[one.split])}_{one.split}_{label}_.png"
        rows[one.split].append((name, one.name, label))
        write_picture(str(root / "png_images" / name), one.image)
        write_picture(str(root / "png_masks" / name), one.mask * 255)
    for split, own in rows.items():
        write_table(
            root / f"stage_1_{split}_images.csv", [("new_filename", "ImageId", "has_pneumo"), *own]
        )


def write_tree(root: Path, images: Iterable[PhantomImage], random: np.random.Generator) -> None:
    """Write siim-acr-png/{images,masks}/{train,test}/*.png, masks of 0 and 255.

    Args:
        root: Empty folder to write to.
        images: The images.
        random: Unused, because the layout has nothing random.
    """
    for kind in ("images", "masks"):
        for split in ("train", "test"):
            (root / "siim-acr-png" / kind / split).mkdir(parents=True)
    for one in images:
        for kind, pixels in (("images", one.image), ("masks", one.mask * 255)):
            write_picture(str(root / "siim-acr-png" / kind / one.split / f"{one.name}.png"), pixels)


def write_table(path: Path, rows: Iterable[tuple[object, ...]]) -> None:
    """Write a CSV whose first row is the header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


IMAGE_SIDE_MM = 0.168 * 1024  # mm times pixels: the side of a real image


def write_kaggle(root: Path, images: Iterable[PhantomImage], random: np.random.Generator) -> None:
    """Write dicom/<study>/<series>/<ImageId>.dcm, train-rle.csv and patients.csv.

    The irregularities of the real set are a blank in the table's header, several rows for some
    images, some of which overlap, a DICOM without a row (the first image again, under another
    name), a row without a DICOM, ages without their Y, and a PatientID per image.

    Args:
        root: Empty folder to write to.
        images: The images.
        random: Source of tags and irregularities.
    """
    rows: list[list[str]] = []
    patients = [("image", "patient")]
    for one in images:
        _write_dicom(root / "dicom", one, random)
        rows.append([f"{one.name},{text}" for text in _encode_mask_rows(one.mask, random)])
        patients.append((one.name, one.patient))
        if len(rows) == 1:
            _write_dicom(root / "dicom", replace(one, name=f"{one.name}1"), random)
            rows.append([f"{one.name}2,{EMPTY_TEXT}"])
    lines = [line for place in random.permutation(len(rows)) for line in rows[place]]
    (root / "train-rle.csv").write_text("\n".join(["ImageId, EncodedPixels", *lines, ""]))
    write_table(root / "patients.csv", patients)


def _encode_mask_rows(mask: np.ndarray, random: np.random.Generator) -> list[str]:
    """Encode a mask as one row, or as 2 or 3 rows of slabs, a third of which overlap."""
    if not mask.any():
        return [EMPTY_TEXT if random.random() < 0.5 else f" {EMPTY_TEXT}"]
    rows = np.nonzero(mask)[0]
    slabs = int(random.choice([1, 2, 3], p=[0.77, 0.17, 0.06]))
    cuts = np.quantile(rows, np.linspace(0, 1, slabs + 1)).round().astype(int)
    more = int(random.integers(1, 5)) if random.random() < 0.35 else 0
    at = np.arange(len(mask))[:, None]
    parts = [
        mask * ((at >= low - more) & (at < high))
        for low, high in zip(cuts, [*cuts[1:-1], len(mask)], strict=False)
    ]
    return [f" {encode_siim(part)}" for part in parts if part.any()]


def _write_dicom(folder: Path, image: PhantomImage, random: np.random.Generator) -> None:
    height, width = image.image.shape
    inverted = random.random() < 0.05
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = SecondaryCaptureImageStorage, image.name
    data.StudyInstanceUID, data.SeriesInstanceUID = (
        image.name.replace(".1.4.", ".1.2.", 1),
        image.name.replace(".1.4.", ".1.3.", 1),
    )
    data.Modality, data.ConversionType, data.BodyPartExamined, data.ViewPosition = (
        "CR",
        "WSD",
        "CHEST",
        str(random.choice(["PA", "AP"])),
    )
    data.PatientID = data.PatientName = random.bytes(16).hex()
    data.PatientSex, age = str(random.choice(["M", "F"])), int(random.integers(16, 90))
    with disable_value_validation():
        data.PatientAge = f"{age:03d}Y" if random.random() < 0.5 else str(age)
    data.SamplesPerPixel, data.Rows, data.Columns = 1, height, width
    data.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.PixelSpacing = [round(IMAGE_SIDE_MM / side, 4) for side in (height, width)]
    data.LossyImageCompression, data.LossyImageCompressionMethod = "01", "ISO_10918_1"
    stored = cv2.imencode(
        ".jpg", 255 - image.image if inverted else image.image, [cv2.IMWRITE_JPEG_QUALITY, 93]
    )[1].tobytes()
    data.PixelData = encapsulate([stored])
    data["PixelData"].VR = "OB"
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    path = folder / data.StudyInstanceUID / data.SeriesInstanceUID / f"{image.name}.dcm"
    path.parent.mkdir(parents=True)
    data.save_as(path, enforce_file_format=True)


LAYOUT_WRITERS = {"kaggle": write_kaggle, "png": write_png, "tree": write_tree}
IMAGES_PER_PATIENT = (0.62, 0.28, 0.10)
IMAGE_ID_FORMAT = "1.2.276.0.7230010.3.1.4.8323329.{}.15178751{:02}.{}"  # as the competition's


@dataclass
class _ImageSpec:
    """Specification of a phantom image that is not generated yet."""

    number: int
    # images with the highest scores have a pneumothorax; images of one patient have similar scores
    positive_score: float
    positive: bool = False
    test: bool = False


@validated
def write(
    root: Path,
    images: PositiveInt = 400,
    size: PositiveInt = 160,
    positive: Fraction = 0.22,
    layout: Literal["kaggle", "png", "tree"] = "kaggle",
    confounders: bool = True,
    contrast: NonNegativeFloat = 1.0,
    seed: NonNegativeInt = 0,
) -> None:
    """Write synthetic images below `root`, once, in one of three layouts.

    The images do not depend on the layout; each layout has the irregularities of the real one.

    Args:
        root: Folder to write; it is not changed if it already holds the same phantoms.
        images: Number of images; a patient has 1 to 3 of them.
        size: Side of the images in pixels.
        positive: Fraction of images with a pneumothorax; 0.22 in the real set.
        layout: "kaggle" for DICOM files with train-rle.csv, and patients.csv that the real set
            lacks; "png" for png_images with png_masks; "tree" for
            siim-acr-png/{images,masks}/{train,test}. The latter two hold out about 15 % of the
            patients.
        confounders: True if tubes, skin folds, clothes, hair and scapulae may lie over the lungs.
        contrast: Contrast of the pneumothoraces, see `draw_pneumothorax`.
        seed: Source of everything random.

    Raises:
        UserError: `layout` is unknown, or `root` exists and holds no phantoms.
    """
    numbers = {
        "images": images,
        "size": size,
        "positive": positive,
        "layout": layout,
        "confounders": confounders,
        "contrast": contrast,
    }
    numbers |= {"seed": seed, "version": 2}
    with write_once(root, numbers) as folder:
        if folder is not None:
            LAYOUT_WRITERS[layout](
                folder,
                draw_images(images, size, positive, confounders, seed, contrast),
                np.random.default_rng([seed, 2]),
            )


def draw_images(
    images: int, size: int, positive: float, confounders: bool, seed: int, contrast: float = 1.0
) -> Iterator[PhantomImage]:
    """Draw and yield all images of a data set, patient by patient; see `write`."""
    random = np.random.default_rng([seed, 0])
    patients = _sample_patients(random, images, positive)
    numbers = random.permutation(images) + 301
    for group, (patient, planned) in enumerate(patients):
        for one in planned:
            own = np.random.default_rng([seed, 1, one.number])
            name = IMAGE_ID_FORMAT.format(
                numbers[one.number], own.integers(100), own.integers(10**5, 10**6)
            )
            image, mask = draw_pneumothorax(
                own,
                size,
                size,
                patient,
                sample_area(own) if one.positive else None,
                confounders,
                contrast,
            )
            yield PhantomImage(name, f"p{group:05d}", image, mask, one.test)


def _sample_patients(
    random: np.random.Generator, images: int, positive: float
) -> list[tuple[ChestPatient, list[_ImageSpec]]]:
    """Plan patients and their images.

    Every seventh patient is held out, among those with and those without a pneumothorax.
    """
    patients: list[tuple[ChestPatient, list[_ImageSpec]]] = []
    total = 0
    while total < images:
        count = min(int(random.choice(3, p=IMAGES_PER_PATIENT)) + 1, images - total)
        leaning = random.random()
        patients.append(
            (
                sample_patient(random),
                [_ImageSpec(total + i, leaning + 0.5 * random.random()) for i in range(count)],
            )
        )
        total += count
    ranked = sorted(
        (one for _, planned in patients for one in planned), key=lambda one: -one.positive_score
    )
    for one in ranked[: round(positive * images)]:
        one.positive = True
    for place, (_, planned) in enumerate(
        sorted(patients, key=lambda each: any(one.positive for one in each[1]))
    ):
        for one in planned:
            one.test = place % 7 == 3
    return patients
