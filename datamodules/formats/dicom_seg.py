"""Layout of DICOM images with DICOM Segmentation objects (SEG) in any subfolder.

Each frame of a SEG names the image that it was made on by its SOPInstanceUID; nothing is matched by
order or by the names of files.

Format: https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_C.8.20.html
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from datamodules.errors import ManifestError
from datamodules.formats.image_files import DICOM_SUFFIXES, IMAGE_SUFFIXES
from datamodules.formats.layout import (
    FolderTree,
    ImageRecord,
    Layout,
    LayoutContent,
    LayoutOptions,
    Outline,
    list_files,
    split_of,
)
from datamodules.formats.rle import encode_rle

SEGMENTATION_CLASS = "1.2.840.10008.5.1.4.1.1.66.4"
HEADER = [
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "PatientID", "Rows", "Columns"),
    *("NumberOfFrames", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
]
HASH_LENGTH = 12  # digits of the hash that stands for a patient
MAX_SHIFT = 0.5  # distance in pixels between the planes of an image and of its segmentation


class SegmentFrame(NamedTuple):
    """One frame of a SEG.

    Attributes:
        image: SOPInstanceUID of the image that it was made on.
        label: SegmentLabel of its segment.
        mask: Bool `H x W`.
    """

    image: str
    label: str
    mask: np.ndarray


class DicomSegmentations(Layout):
    """DICOM images and SEGs that name them, in any folders."""

    name = "dicom_seg"
    task = "masks"
    looks_for = "DICOM images and DICOM Segmentation objects (SEG) that name them"
    specializes = ("image_mask_folders", "image_mask_pairs")

    def match(self, tree: FolderTree, options: LayoutOptions) -> str | None:
        """Recognize a DICOM of the class Segmentation Storage."""
        classes = _read_headers(tree, ["SOPClassUID"])
        found = [file for file, header in classes.items() if _is_segmentation(header)]
        if not found or len(found) == len(classes):
            return None
        return (
            f"{len(classes) - len(found)} DICOM images and {len(found)} Segmentation objects"
            f" ({list_files(found)})"
        )

    def read(self, tree: FolderTree, options: LayoutOptions) -> LayoutContent:
        """Match the frames of each SEG to their images; segments are named by SegmentLabel."""
        headers = _read_headers(tree, HEADER)
        counted = []
        images: dict[str, str] = {}  # SOPInstanceUID -> file
        for file, header in headers.items():
            if _is_segmentation(header):
                continue
            uid = str(header.get("SOPInstanceUID", file))
            if not header.get("Rows"):
                counted.append(("DICOM without an image: left out", file))
            elif uid in images:
                counted.append(("DICOM of the same SOPInstanceUID as another: left out", file))
            else:
                images[uid] = file
        group, group_note = _hash_patients({file: headers[file] for file in images.values()})
        counted += group_note
        records = {
            uid: ImageRecord(file, split_of(file), group[file], annotated=False)
            for uid, file in images.items()
        }
        classes: list[str] = []
        for file in [file for file, header in headers.items() if _is_segmentation(header)]:
            classes += _add_segmentation(tree, file, headers, images, records, counted)
        used = {outline.name for record in records.values() for outline in record.outlines}
        names = list(dict.fromkeys(classes))
        counted += [("segment without pixels: ignored", n) for n in names if n not in used]
        return LayoutContent(
            list(records.values()),
            [name for name in names if name in used],
            group_is="patient",
            counted=counted,
        )


def _add_segmentation(
    tree: FolderTree,
    file: str,
    headers: dict[str, Any],
    images: dict[str, str],
    records: dict[str, ImageRecord],
    counted: list[tuple[str, str]],
) -> list[str]:
    """Add the masks of one SEG to the records of its images; return the labels of its segments."""
    from datamodules.formats.dicom import read_dicom_elements

    dataset = read_dicom_elements(tree.path(file))
    labels = _segment_labels(tree, file, dataset)
    named = _named_images(dataset)
    missing = [uid for uid in named if uid not in records]
    if len(missing) == len(named):
        counted.append(("SEG whose images are missing: left out", file))
        return []
    if missing:
        counted.append(("SEG of which some images are missing", file))
    for uid in named:
        if uid in records:
            header = headers[images[uid]]
            _check_image(tree, file, dataset, images[uid], header)
            records[uid].annotated = True
    for frame, groups in _frames(tree, file, dataset, labels):
        record = records.get(frame.image)
        if record is None or not frame.mask.any():
            continue
        _check_plane(tree, file, groups, record.image, headers[record.image])
        rle = encode_rle(frame.mask[..., None].view(np.uint8))[0]
        if rle is not None:
            where = f"{tree.path(file)}: the segment '{frame.label}' of {record.image}"
            record.outlines.append(Outline(frame.label, where, rle))
    return list(labels.values())


def _segment_labels(tree: FolderTree, file: str, dataset: Any) -> dict[int, str]:
    labels = {
        int(item.SegmentNumber): str(item.get("SegmentLabel") or "").strip()
        for item in dataset.get("SegmentSequence") or ()
    }
    if not labels or not all(labels.values()):
        raise ManifestError(
            f"{tree.path(file)} has a segment without SegmentLabel, which names its class; write"
            " it, or take the file out of the data set"
        )
    return labels


def _named_images(dataset: Any) -> list[str]:
    """Return the SOPInstanceUIDs of all images that a SEG refers to."""
    listed = [
        str(item.ReferencedSOPInstanceUID)
        for series in dataset.get("ReferencedSeriesSequence") or ()
        for item in series.get("ReferencedInstanceSequence") or ()
    ]
    groups = [
        *(dataset.get("PerFrameFunctionalGroupsSequence") or ()),
        *(dataset.get("SharedFunctionalGroupsSequence") or ()),
    ]
    return list(dict.fromkeys([*listed, *(uid for each in groups for uid in _sources(each))]))


def _sources(groups: Any) -> list[str]:
    """Return the SOPInstanceUIDs of the images that one frame was made on."""
    return [
        str(source.ReferencedSOPInstanceUID)
        for derivation in groups.get("DerivationImageSequence") or ()
        for source in derivation.get("SourceImageSequence") or ()
    ]


def _frames(
    tree: FolderTree, file: str, dataset: Any, labels: dict[int, str]
) -> Iterator[tuple[SegmentFrame, Any]]:
    """Yield each frame of a SEG with its functional groups."""
    kind = str(dataset.get("SegmentationType"))
    if kind not in ("BINARY", "FRACTIONAL"):
        raise ManifestError(
            f"{tree.path(file)} is a segmentation of the type {kind}, which cannot be read; write"
            " it as BINARY"
        )
    try:
        pixels = dataset.pixel_array.reshape(-1, int(dataset.Rows), int(dataset.Columns))
        frames = list(dataset.PerFrameFunctionalGroupsSequence)
        shared: Any = (dataset.get("SharedFunctionalGroupsSequence") or [{}])[0]
        top = int(dataset.get("MaximumFractionalValue") or 255) if kind == "FRACTIONAL" else 1
        if len(frames) != len(pixels):
            raise ValueError(f"{len(pixels)} frames, and {len(frames)} are described")
    except Exception as error:  # a damaged element makes pydicom raise anything
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ManifestError(
            f"{tree.path(file)} cannot be decoded ({reason}); replace the file or take it out"
        ) from error
    for number, (groups, values) in enumerate(zip(frames, pixels, strict=True)):
        sources = set(_sources(groups) or _sources(shared))
        if len(sources) != 1:
            raise ManifestError(
                f"{tree.path(file)}: frame {number + 1} names {len(sources) or 'no'} images that it"
                " was made on, and one is needed; write the segmentation on the original slices"
            )
        identified = groups.get("SegmentIdentificationSequence") or shared.get(
            "SegmentIdentificationSequence"
        )
        segment = int(identified[0].ReferencedSegmentNumber) if identified else -1
        if segment not in labels:
            raise ManifestError(
                f"{tree.path(file)}: frame {number + 1} belongs to no segment that the file"
                " describes; export the segmentation again"
            )
        yield SegmentFrame(sources.pop(), labels[segment], 2 * values.astype(int) >= top), groups


def _check_image(tree: FolderTree, file: str, dataset: Any, image: str, header: Any) -> None:
    """Refuse a SEG of another size than its image, and images of several frames."""
    sizes = [(int(each.Rows), int(each.Columns)) for each in (dataset, header)]
    if sizes[0] != sizes[1]:
        raise ManifestError(
            f"{tree.path(file)} has frames of {sizes[0][0]} x {sizes[0][1]} pixels, and its image"
            f" {image} {sizes[1][0]} x {sizes[1][1]}; write the segmentation on the original image"
        )
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise ManifestError(
            f"{tree.path(image)} holds {header.NumberOfFrames} frames, and segmentations are read"
            " of images of one frame; write every frame as its own file"
        )


def _check_plane(tree: FolderTree, file: str, groups: Any, image: str, header: Any) -> None:
    """Refuse a frame that lies elsewhere in space than its image, or is turned."""
    planes = groups.get("PlanePositionSequence")
    if not planes or not header.get("ImagePositionPatient") or not header.get("PixelSpacing"):
        return
    ends = [planes[0].ImagePositionPatient, header.ImagePositionPatient]
    first, second = (np.array(end, float) for end in ends)
    turned = False
    orientation = groups.get("PlaneOrientationSequence")
    if orientation and header.get("ImageOrientationPatient"):
        own = np.array(orientation[0].ImageOrientationPatient, float)
        turned = not np.allclose(own, np.array(header.ImageOrientationPatient, float), atol=1e-2)
    shift = float(np.linalg.norm(first - second)) / min(map(float, header.PixelSpacing))
    if turned or shift > MAX_SHIFT:
        raise ManifestError(
            f"{tree.path(file)} has a frame that lies elsewhere than its image {image}"
            f" ({'turned' if turned else f'{shift:.3g} pixels away'}); write the segmentation on"
            " the original image"
        )


def _read_headers(tree: FolderTree, keywords: Sequence[str]) -> dict[str, Any]:
    """Return elements of all DICOMs of a folder; files that cannot be read are left out."""
    from datamodules.formats.dicom import read_dicom_elements

    plain = IMAGE_SUFFIXES - DICOM_SUFFIXES
    files = [f for f in tree.images if PurePosixPath(f).suffix.lower() not in plain]

    def read(file: str) -> Any:
        """Return the elements of one file; None if it is damaged or no DICOM."""
        try:
            return read_dicom_elements(tree.path(file), keywords)
        except ManifestError:  # reported with its name when its pixels are read
            return None

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(read, files))
    return {f: header for f, header in zip(files, found, strict=True) if header is not None}


def _is_segmentation(header: Any) -> bool:
    return str(header.get("SOPClassUID")) == SEGMENTATION_CLASS


def _hash_patients(
    headers: dict[str, Any],
) -> tuple[dict[str, str | None], list[tuple[str, str]]]:
    """Return the group of each image, a hash, so that no name of a patient is written to a file.

    Groups are patients, and studies where PatientID is empty or is the same everywhere; None if
    both are missing.
    """
    patients = {
        file: str(header.get("PatientID") or "").strip() for file, header in headers.items()
    }
    studies = {file: str(header.get("StudyInstanceUID") or "") for file, header in headers.items()}
    count = defaultdict(set)
    for file, patient in patients.items():
        count[patient].add(studies[file])
    same = len(count) == 1 and len(next(iter(count.values()))) > 1
    noted = [("all images have one PatientID: groups are studies", next(iter(headers)))] * same
    groups = {
        file: None
        if not patient and not studies[file]
        else _hash(f"study {studies[file]}" if same or not patient else f"patient {patient}")
        for file, patient in patients.items()
    }
    return groups, noted


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]
