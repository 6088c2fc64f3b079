"""Writer of pneumothorax phantoms in the layout of the SIIM-ACR competition.

It has a tree of compressed DICOM files and one table of run lengths.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, SecondaryCaptureImageStorage

from datamodules.formats.rle import EMPTY, to_siim
from datamodules.phantoms.pneumothorax_layouts import Drawn, write_table

SPACING = 0.168 * 1024  # mm times pixels: the side of a real image


def write_kaggle(root: Path, drawn: Iterable[Drawn], random: np.random.Generator) -> None:
    """Write dicom/<study>/<series>/<ImageId>.dcm, train-rle.csv and patients.csv.

    As in the real set: a blank in the table's header, several rows for some images, which overlap
    at times, a DICOM without a row (the first image again, under another name), a row without a
    DICOM, ages without their Y, a PatientID per image.

    Args:
        root: An empty folder.
        drawn: The images.
        random: Source of tags and irregularities.
    """
    rows: list[list[str]] = []
    patients = [("image", "patient")]
    for one in drawn:
        _write_dicom(root / "dicom", one, random)
        rows.append([f"{one.name},{text}" for text in _texts(one.mask, random)])
        patients.append((one.name, one.patient))
        if len(rows) == 1:
            _write_dicom(root / "dicom", replace(one, name=f"{one.name}1"), random)
            rows.append([f"{one.name}2,{EMPTY}"])
    lines = [line for place in random.permutation(len(rows)) for line in rows[place]]
    (root / "train-rle.csv").write_text("\n".join(["ImageId, EncodedPixels", *lines, ""]))
    write_table(root / "patients.csv", patients)


def _texts(mask: np.ndarray, random: np.random.Generator) -> list[str]:
    """Encode a mask as one row, or as 2 or 3 rows of slabs, a third of which overlap."""
    if not mask.any():
        return [EMPTY if random.random() < 0.5 else f" {EMPTY}"]
    rows = np.nonzero(mask)[0]
    slabs = int(random.choice([1, 2, 3], p=[0.77, 0.17, 0.06]))
    cuts = np.quantile(rows, np.linspace(0, 1, slabs + 1)).round().astype(int)
    more = int(random.integers(1, 5)) if random.random() < 0.35 else 0
    at = np.arange(len(mask))[:, None]
    parts = [
        mask * ((at >= low - more) & (at < high))
        for low, high in zip(cuts, [*cuts[1:-1], len(mask)], strict=False)
    ]
    return [f" {to_siim(part)}" for part in parts if part.any()]


def _write_dicom(folder: Path, one: Drawn, random: np.random.Generator) -> None:
    height, width = one.image.shape
    inverted = random.random() < 0.05
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = SecondaryCaptureImageStorage, one.name
    data.StudyInstanceUID, data.SeriesInstanceUID = (
        one.name.replace(".1.4.", ".1.2.", 1),
        one.name.replace(".1.4.", ".1.3.", 1),
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
    data.PixelSpacing = [round(SPACING / side, 4) for side in (height, width)]
    data.LossyImageCompression, data.LossyImageCompressionMethod = "01", "ISO_10918_1"
    stored = cv2.imencode(
        ".jpg", 255 - one.image if inverted else one.image, [cv2.IMWRITE_JPEG_QUALITY, 93]
    )[1].tobytes()
    data.PixelData = encapsulate([stored])
    data["PixelData"].VR = "OB"
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    path = folder / data.StudyInstanceUID / data.SeriesInstanceUID / f"{one.name}.dcm"
    path.parent.mkdir(parents=True)
    data.save_as(path, enforce_file_format=True)
