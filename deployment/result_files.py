"""Files of predictions: masks, maps, overlays, DICOM objects, and the rows of predictions.csv.

do=[predict] and a bundle's predict.py write the same files.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from datamodules.errors import ManifestError
from datamodules.formats.file_names import safe_file_names
from datamodules.formats.image_files import is_dicom
from deployment.inference import Decision, Prediction
from evaluation.logit_bins import bin_probability

TABLE_FILE, LEFT_OUT_FILE = "predictions.csv", "left_out.csv"
DICOM_OBJECTS = ("seg", "report")
OVERLAY_COLORS = ((0, 0, 255), (0, 200, 0), (255, 128, 0), (0, 200, 255), (255, 0, 255))  # BGR
FULL_PROBABILITY = 65535  # of a probability map, where it is the probability 1


class ModelIdentity(NamedTuple):
    """Network that made predictions, for DICOM objects.

    Attributes:
        name: Title of its run.
        version: Version of this software.
        digest: SHA-256 of its weights, the same for a run and its bundle.
    """

    name: str
    version: str
    digest: str

    @classmethod
    def from_checkpoints(
        cls, title: str, version: str, digests: Sequence[str], phantom: bool | None
    ) -> "ModelIdentity":
        """Make the identity of one network, or of several that answer together.

        Args:
            title: Title of the run.
            version: Version of this software.
            digests: SHA-256 of each checkpoint.
            phantom: True if the network was trained on synthetic images, which its name then says.
        """
        joined = digests[0] if len(digests) == 1 else sha256("".join(digests).encode()).hexdigest()
        return cls(name_model(title, phantom), version, joined)


def name_model(title: str, phantom: bool | None) -> str:
    """Return the name of a network, which says that it has only seen phantoms."""
    return f"{title} (phantom data)" if phantom else title


@dataclass(frozen=True, kw_only=True)
class ResultOptions:
    """Files that are written for each image.

    Attributes:
        masks: True for masks.
        probability_maps: True for probability maps, PNGs of 16 bits.
        overlays: True for images with the outlines of their masks.
        dicom: `seg`, `report`, both or none, for images that are DICOMs.
    """

    masks: bool = True
    probability_maps: bool = False
    overlays: bool = False
    dicom: tuple[str, ...] = ()


class ResultFiles:
    """Writer of the files of each image; several threads may write different images.

    Args:
        folder: Folder for the results.
        decision: Classes and rule.
        ids: Ids of all images.
        options: Files that are written.
        identity: The network.
    """

    def __init__(
        self,
        folder: Path,
        decision: Decision,
        ids: Sequence[str],
        options: ResultOptions,
        identity: ModelIdentity,
    ) -> None:
        if options.dicom:  # refused before the first image
            from deployment.dicom_objects import import_highdicom

            import_highdicom("a DICOM object")
        self.folder, self.decision = folder, decision
        self.options, self.identity = options, identity
        self.names = dict(zip(ids, safe_file_names(ids), strict=True))
        self.class_folders = safe_file_names(decision.classes)
        self.without_object: list[tuple[Path, str]] = []  # films, with the reason
        self.without_film = 0  # images that are no DICOMs, where DICOM objects are asked for

    def write(
        self,
        prediction: Prediction,
        path: Path,
        shown: Callable[[], np.ndarray],
        with_dicom: bool = True,
    ) -> None:
        """Write everything of one image.

        Args:
            prediction: Its result.
            path: File of the image.
            shown: Function that returns the displayed image, uint8 `H x W x C`.
            with_dicom: False if the image is only a part of its file.
        """
        if prediction.masks is not None:
            if self.options.masks:
                self._write_masks(prediction)
            if self.options.probability_maps:
                maps = np.rint(prediction.probability_map * FULL_PROBABILITY).astype(np.uint16)
                self._write_planes("probability_maps", prediction.id, maps)
            if self.options.overlays:
                self._write_png("overlays", prediction.id, draw_overlay(shown(), prediction.masks))
        if self.options.dicom and with_dicom:
            try:
                self._write_dicom(path, prediction)
            except ManifestError as error:  # such as a film without identifiers
                self.without_object.append((path, f"predicted, but no DICOM object: {error}"))

    def write_values(self) -> None:
        """Write the classes of the gray values of class maps, masks/values.csv."""
        if not (self.decision.target == "mask" and self.decision.exclusive):
            return
        place = self.folder / "masks"
        if place.is_dir():
            with (place / "values.csv").open("w", newline="", encoding="utf-8") as file:
                names = ["background", *self.decision.classes]
                csv.writer(file).writerows([("value", "class"), *enumerate(names)])

    def _write_masks(self, prediction: Prediction) -> None:
        if self.decision.exclusive:
            self._write_png("masks", prediction.id, prediction.mask)
        elif prediction.masks is not None:
            self._write_planes("masks", prediction.id, prediction.masks.astype(np.uint8) * 255)

    def _write_planes(self, kind: str, id: str, planes: np.ndarray) -> None:
        """Write a PNG for each class; each of several classes has its own folder."""
        for name, plane in zip(self.class_folders, planes, strict=True):
            self._write_png(f"{kind}/{name}" if len(planes) > 1 else kind, id, plane)

    def _write_png(self, subfolder: str, id: str, pixels: np.ndarray) -> None:
        path = self.folder / subfolder / f"{self.names[id]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())  # imwrite cannot take all paths

    def _write_dicom(self, path: Path, prediction: Prediction) -> None:
        from deployment.dicom_objects import (
            ClassFinding,
            DicomAlgorithm,
            write_report,
            write_segmentation,
        )

        if not is_dicom(path, None):
            self.without_film += 1
            return
        algorithm = DicomAlgorithm(**self.identity._asdict())
        place = self.folder / "dicom"
        place.mkdir(parents=True, exist_ok=True)
        name = self.names[prediction.id]
        if "seg" in self.options.dicom and prediction.masks is not None:
            write_segmentation(
                path,
                prediction.masks,
                self.decision.classes,
                place / f"{name}.seg.dcm",
                algorithm=algorithm,
            )
        if "report" in self.options.dicom:
            findings = [
                ClassFinding(each, prediction.probability[each], prediction.positive[each])
                for each in self.decision.classes
            ]
            rule = describe_rule(self.decision)
            write_report(path, findings, rule, place / f"{name}.report.dcm", algorithm=algorithm)


def draw_overlay(shown: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Draw the outlines of masks on their image.

    Args:
        shown: Displayed image, uint8 `H x W x C`.
        masks: Bool `classes x H x W`.

    Returns:
        BGR, uint8 `H x W x 3`.
    """
    gray = np.ascontiguousarray(shown[..., 0])
    color = shown[..., ::-1] if shown.shape[2] == 3 else cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR)
    color = np.ascontiguousarray(color)
    thickness = max(1, round(max(color.shape[:2]) / 400))
    for number, mask in enumerate(masks):
        outlines, _ = cv2.findContours(
            mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        line = OVERLAY_COLORS[number % len(OVERLAY_COLORS)]
        cv2.drawContours(color, outlines, -1, line, thickness)
    return color


def write_table(
    path: Path,
    header: Sequence[str],
    rows: Sequence[Sequence[Any]],
    splits: Mapping[str, str] | None = None,
    problems: Mapping[str, str] | None = None,
) -> None:
    """Write predictions.csv.

    Args:
        path: The file.
        header: Columns, see `table_header`.
        rows: See `table_row`.
        splits: Split of each image, for a column `split`; None leaves it out.
        problems: Reason of each image that has no prediction, for a column `problem`.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        between = ["split"] if splits is not None else []
        behind = ["problem"] if problems else []
        table.writerow([header[0], *between, *header[1:], *behind])
        for row in rows:
            split = [] if splits is None else [splits[row[0]]]
            table.writerow([row[0], *split, *row[1:], *([""] if problems else [])])
        for id, reason in (problems or {}).items():
            table.writerow([id, *([""] * (len(between) + len(header) - 1)), reason])


def write_left_out(folder: Path, files: Sequence[tuple[str, str]]) -> None:
    """Write the list of files without a prediction.

    Args:
        folder: Folder for the results.
        files: Each file, with the reason.
    """
    with (folder / LEFT_OUT_FILE).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "reason"])
        table.writerows(files)


def describe_rule(decision: Decision) -> str:
    """Describe the decision rule in words."""
    if decision.exclusive:
        return "the most probable class"
    several = len(decision.classes) > 1
    texts = []
    for name, (first, min_area, last) in zip(decision.classes, decision.rule, strict=True):
        if decision.target == "label":
            text = f"probability >= {first:.4g}"
        else:
            text = f"pixels of probability >= {float(bin_probability(last)):.4g}"
            if min_area or first != last:
                text += (
                    f", if at least {min_area:.4g} of the image have a probability >="
                    f" {float(bin_probability(first)):.4g}"
                )
        texts.append(f"{name}: {text}" if several else text)
    return "; ".join(texts)


def table_header(decision: Decision) -> list[str]:
    """Return the columns of predictions.csv; those of several classes end in their names."""
    kinds = ["positive", "probability"]
    kinds += ["area_px", "area_mm2", "components"] if decision.target == "mask" else []
    several = len(decision.classes) > 1
    per_class = [
        f"{kind} {name}" if several else kind for name in decision.classes for kind in kinds
    ]
    return ["id", "file", "label", *per_class, "seconds"]


def table_row(prediction: Prediction, name: str, seconds: float) -> list[Any]:
    """Return the row of one image in predictions.csv.

    Args:
        prediction: Result of the image.
        name: Name of its files in `masks/`, `overlays/` and so on, without suffix.
        seconds: Time that it took.
    """
    cells: list[Any] = [prediction.id, name, prediction.label]
    areas, components = prediction.area_mm2, [box.name for box in prediction.boxes]
    for name in prediction.decision.classes:
        cells += [int(prediction.positive[name]), f"{prediction.probability[name]:.6f}"]
        if prediction.masks is not None:
            area = "" if areas is None else f"{areas[name]:.4f}"
            cells += [prediction.area[name], area, components.count(name)]
    return [*cells, f"{seconds:.4f}"]
