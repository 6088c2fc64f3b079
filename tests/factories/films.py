"""Films as DICOM with lesions at known pixels, and the masks of these."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

GRAYS = (90, 140, 190, 240)  # of the lesions of each class; the background is darker


def draw_masks(size: tuple[int, int], classes: int, seed: int) -> np.ndarray:
    """Draw one lesion per class, none of it symmetric; some classes are empty.

    Returns:
        Bool `classes x H x W`, without overlap.
    """
    rng = np.random.default_rng(seed)
    height, width = size
    masks = np.zeros((classes, height, width), bool)
    for k in range(classes):
        if rng.random() < 0.25:
            continue
        corners = rng.uniform([0, 0], [width, height], (5, 2)).astype(np.int32)
        masks[k] = cv2.fillPoly(np.zeros(size, np.uint8), [corners], 1).astype(bool)
        masks[k] &= ~masks[:k].any(0)
    return masks


def film_dataset(pixels: np.ndarray, number: int = 1, **elements: Any) -> Dataset:
    """Return a CR without a frame of reference, such as a chest film.

    Args:
        pixels: uint8 `H x W` as a viewer shows them; MONOCHROME1 stores them inverted.
        number: Number that its identifiers follow from.
        **elements: Further elements by keyword; None removes one.
    """
    film = Dataset()
    film.SOPClassUID, film.Modality = ComputedRadiographyImageStorage, "CR"
    film.StudyInstanceUID = f"1.2.826.0.1.{number}"
    film.SeriesInstanceUID = f"1.2.826.0.1.{number}.1"
    film.SOPInstanceUID = f"1.2.826.0.1.{number}.1.1"
    film.PatientID, film.PatientName = f"patient{number}", f"Doe^{number}"
    film.PatientBirthDate, film.PatientSex = "19500101", "F"
    film.StudyDate, film.StudyTime, film.StudyID = "20260102", "101112", "7"
    film.AccessionNumber, film.ReferringPhysicianName = "A7", ""
    film.SeriesNumber, film.InstanceNumber = 1, 1
    film.PatientOrientation = ["L", "F"]
    film.Rows, film.Columns = pixels.shape
    film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME2"
    film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 8, 8, 7, 0
    for keyword, value in elements.items():
        setattr(film, keyword, value)
    inverted = film.PhotometricInterpretation == "MONOCHROME1"
    stored = (255 - pixels if inverted else pixels).tobytes()
    film.PixelData = stored + bytes(len(stored) % 2)
    film["PixelData"].VR = "OB"
    for keyword in [keyword for keyword, value in elements.items() if value is None]:
        delattr(film, keyword)
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return film


def write_film(path: Path, masks: np.ndarray, number: int = 1, **elements: Any) -> Path:
    """Write a film that shows the masks, each class in its own gray; see `film_dataset`."""
    pixels = np.full(masks.shape[1:], 20, np.uint8)
    for mask, gray in zip(masks, GRAYS, strict=False):
        pixels[mask] = gray
    film = film_dataset(pixels, number, **elements)
    film.save_as(path, enforce_file_format="SOPInstanceUID" in film)
    return path
