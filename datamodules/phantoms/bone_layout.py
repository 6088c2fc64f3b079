"""Writer of phantom bone scans in the layout of BS-80K.

It has a folder per view and region, its labels in a .txt, and boxes as LabelImg's XML.
"""

from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np

from datamodules.phantoms.bone_examination import Box, Scan

WHOLE = "wholeBody"
REGION_FOLDERS = ("kneeLANT", "kneeRPOST", "vertbraPOST", "pelvisANT")  # of the real set's 26
NO_XML = 0.03  # share of scans that nobody drew boxes in
NO_REGIONS = 0.1  # share of patients whose regions were not cut out; 322 of 3,247 in the real set


class Layout:
    """Writer of patients that collects their labels; `close` writes the labels.

    Args:
        root: An empty folder.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._lines = root, dict[str, list[str]]()
        for view in ("ANT", "POST"):
            (root / (WHOLE + view) / view.lower()).mkdir(parents=True)
            (root / "masks" / (WHOLE + view)).mkdir(parents=True)
        for name in REGION_FOLDERS:
            (root / name).mkdir()

    def write(self, number: int, scans: dict[str, Scan], random: np.random.Generator) -> None:
        """Write one patient.

        Args:
            number: The patient's, from 1; it names the files in all folders.
            scans: By view.
            random: Decides the JPEGs' quality, and which XML and regions are missing.
        """
        quality, regions = int(random.integers(88, 97)), random.random() >= NO_REGIONS
        for view, scan in scans.items():
            folder = WHOLE + view
            self._write_image(folder, number, scan.image, bool(scan.mask.any()), quality)
            cv2.imwrite(
                str(self._root / "masks" / folder / f"{number}.png"),
                scan.mask.astype(np.uint8) * 255,
            )
            if random.random() >= NO_XML:
                (self._root / folder / view.lower() / f"{number}.xml").write_bytes(
                    annotation(folder, f"{number}.jpg", scan)
                )
            for region, (x1, y1, x2, y2) in scan.regions.items() if regions else ():
                if region + view in REGION_FOLDERS:
                    abnormal = bool(scan.mask[y1:y2, x1:x2].any())
                    self._write_image(
                        region + view, number, scan.image[y1:y2, x1:x2], abnormal, quality
                    )

    def close(self) -> None:
        """Write the labels of each folder: per image its name, a tab, and 1 (abnormal) or 0."""
        for folder, lines in self._lines.items():
            (self._root / folder / f"{folder}.txt").write_text("".join(lines))

    def _write_image(
        self, folder: str, number: int, image: np.ndarray, abnormal: bool, quality: int
    ) -> None:
        cv2.imwrite(
            str(self._root / folder / f"{number}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, quality]
        )
        self._lines.setdefault(folder, []).append(f"{number}.jpg\t{int(abnormal)}\n")


def annotation(folder: str, name: str, scan: Scan) -> bytes:
    """Return a scan's boxes as Pascal VOC XML, as LabelImg writes it.

    Boxes around lesions are "Abnormal", those around other hot spots "Normal".
    """
    root = ElementTree.Element("annotation")
    for tag, text in (("folder", folder), ("filename", name), ("path", f"{folder}/{name}")):
        ElementTree.SubElement(root, tag).text = text
    ElementTree.SubElement(ElementTree.SubElement(root, "source"), "database").text = "Unknown"
    size = ElementTree.SubElement(root, "size")
    for tag, number in zip(("width", "height", "depth"), (*scan.image.shape[::-1], 1), strict=True):
        ElementTree.SubElement(size, tag).text = str(number)
    ElementTree.SubElement(root, "segmented").text = "0"
    for kind, boxes in (("Normal", scan.normal), ("Abnormal", scan.abnormal)):
        for box in boxes:
            _add_object(root, kind, box)
    ElementTree.indent(root, "\t")
    return ElementTree.tostring(root)


def _add_object(root: ElementTree.Element, kind: str, box: Box) -> None:
    found = ElementTree.SubElement(root, "object")
    for tag, text in (
        ("name", kind),
        ("pose", "Unspecified"),
        ("truncated", "0"),
        ("difficult", "0"),
    ):
        ElementTree.SubElement(found, tag).text = text
    corners = ElementTree.SubElement(found, "bndbox")
    for tag, number in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
        ElementTree.SubElement(corners, tag).text = str(number)
