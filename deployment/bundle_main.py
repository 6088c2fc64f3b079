"""Command line of a bundle's predict.py: files and folders in, masks and tables out."""

import argparse
import csv
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from datamodules.errors import ManifestError, UnreadableFilesError, UserError
from datamodules.formats.file_names import safe_file_names
from datamodules.formats.image_files import (
    IMAGE_SUFFIXES,
    image_name,
    is_dicom,
    is_image_file,
    is_junk,
    is_volume,
    walk_files,
)
from deployment.bundle_reader import MAX_BATCH, MODEL_FILE, OpenedBundle, open_bundle
from deployment.inference import Decision, InferencePipeline, LoadedImage, Prediction
from evaluation.logit_bins import bin_probability

TABLE_FILE, LEFT_OUT_FILE = "predictions.csv", "left_out.csv"
DICOM_OBJECTS = ("seg", "report")
OVERLAY_COLORS = ((0, 0, 255), (0, 200, 0), (255, 128, 0), (0, 200, 255), (255, 0, 255))  # BGR


def main(arguments: Sequence[str] | None = None, bundle: Path | None = None) -> int:
    """Predict the images that the command line names.

    Args:
        arguments: Arguments of the command line; None for those of this process.
        bundle: Folder of the bundle; None for that of this file.

    Returns:
        Exit code: 0, 2 for a refusal, or 3 if files could not be read and all others are predicted.
    """
    options = _parser().parse_args(arguments)
    try:
        _check_options(options)
        opened = open_bundle(bundle or Path(__file__).resolve().parent, options.threads)
        _predict_all(opened, options)
    except OSError as error:  # such as a full disk
        print(
            f"error: {error.filename or options.out} cannot be written ({error.strerror}); make"
            " room and start again, what is written already stays",
            file=sys.stderr,
        )
        return UserError.exit_code
    except UserError as refusal:
        print(f"error: {refusal}", file=sys.stderr)
        return refusal.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Predict masks or labels of images by the network beside this file. It is"
        " research software and no medical device.",
    )
    parser.add_argument("inputs", nargs="+", type=Path, help="image files, DICOMs, or folders")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--probability-maps", action="store_true", help="write 16-bit PNGs, 65535 is 1.0"
    )
    parser.add_argument("--overlays", action="store_true", help="write images with outlines")
    parser.add_argument(
        "--dicom",
        default="",
        metavar="seg,report",
        help="write DICOM objects of DICOM films: seg, report, or both (needs highdicom)",
    )
    parser.add_argument("--batch", type=int, default=8, help="images per batch (default 8)")
    parser.add_argument(
        "--min-component",
        type=int,
        default=0,
        help="remove connected components of fewer pixels (default 0: keep all)",
    )
    parser.add_argument("--threads", type=int, default=None, help="threads; default: one per core")
    return parser


def _check_options(options: argparse.Namespace) -> None:
    options.dicom = [each for each in options.dicom.split(",") if each]
    unknown = [each for each in options.dicom if each not in DICOM_OBJECTS]
    if unknown:
        raise UserError(f"--dicom={','.join(unknown)} is unknown; choose from seg and report")
    for name in ("batch", "threads"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name}={value} is no number of at least 1; leave it out")
    if options.min_component < 0:
        raise UserError(f"--min-component={options.min_component} is negative; leave it out")
    options.batch = min(options.batch, MAX_BATCH)


class FoundFiles(NamedTuple):
    """Files of the command line.

    Attributes:
        images: Path of each image, with its id.
        left_out: Path of each file that is no image, with the reason.
    """

    images: list[tuple[Path, str]]
    left_out: list[tuple[Path, str]]


def find_inputs(inputs: Sequence[Path]) -> FoundFiles:
    """Find the images among files and folders.

    An id is the stem of its file, or its path below the named folder where stems repeat.

    Raises:
        UserError: A file does not exist, or there is no image.
    """
    images: dict[Path, Path] = {}
    left_out: list[tuple[Path, str]] = []
    for path in inputs:
        if not path.exists():
            raise UserError(f"{path} does not exist; name files or folders of images")
        for file in sorted(walk_files(path)) if path.is_dir() else [path]:
            reason = _reason_to_leave_out(file)
            if reason:
                left_out.append((file, reason))
            else:
                images.setdefault(file, path)
    if not images:
        listed = ", ".join(map(str, inputs))
        first = f" ({left_out[0][0].name}: {left_out[0][1]})" if left_out else ""
        raise UserError(
            f"{listed} holds no image{first}; name PNG, JPEG, TIFF or DICOM files, or their folder"
        )
    stems = [image_name(path) for path in images]
    unique = len(set(stems)) == len(stems)
    paths = [
        file.relative_to(named).as_posix() if named.is_dir() else file.as_posix()
        for file, named in images.items()
    ]
    ids = stems if unique else paths
    return FoundFiles(list(zip(images, ids, strict=True)), left_out)


def _reason_to_leave_out(path: Path) -> str:
    """Return why a file is no image; empty if it is one."""
    if is_volume(path):
        return "a volume; predict it with do=[predict], or write its slices as images"
    if is_junk(path) or not (path.suffix.lower() in IMAGE_SUFFIXES or is_dicom(path, None)):
        return "no image by its suffix or content"
    if is_dicom(path, None):
        from datamodules.formats.dicom import read_dicom_elements

        try:
            header = read_dicom_elements(path, ["Rows", "Columns", "Modality"])
        except ManifestError:
            return ""  # its error is reported when it is read
        if not header.get("Rows"):
            return f"a DICOM without an image (modality {header.get('Modality', 'unknown')})"
    return "" if is_image_file(path) else "no image by its suffix or content"


def _predict_all(bundle: OpenedBundle, options: argparse.Namespace) -> None:
    found = find_inputs(options.inputs)
    pipeline = InferencePipeline(
        bundle.network, bundle.preprocessing, bundle.decision, options.min_component
    )
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--out={options.out} cannot be created ({error.strerror}); name another folder"
        ) from error
    writer = ResultWriter(options.out, bundle, found.images, options)
    unreadable: list[tuple[Path, str]] = []
    with writer:
        for batch in load_batches(pipeline, found.images, options.batch, unreadable):
            began = time.perf_counter()
            predictions = pipeline.predict_batch([image for _, image in batch])
            seconds = (time.perf_counter() - began) / max(1, len(batch))
            for (path, _), prediction in zip(batch, predictions, strict=True):
                writer.write(path, prediction, seconds)
    writer.finish([*found.left_out, *unreadable])
    if unreadable:
        path, reason = unreadable[0]
        raise UnreadableFilesError(
            f"{len(unreadable)} of {len(found.images)} files cannot be read, such as {path}"
            f" ({reason}); all others are predicted, and {options.out / LEFT_OUT_FILE} lists the"
            " reasons"
        )


def load_batches(
    pipeline: InferencePipeline,
    files: Sequence[tuple[Path, str]],
    batch_size: int,
    unreadable: list[tuple[Path, str]],
) -> Iterator[list[tuple[Path, LoadedImage]]]:
    """Yield batches of images; the next one is read while the network answers for this one.

    Args:
        pipeline: Reader of the images.
        files: Path and id of each image.
        batch_size: Images per batch.
        unreadable: List to which files that cannot be read are added, with the reason.
    """

    def load(start: int) -> list[tuple[Path, LoadedImage]]:
        """Read one batch."""
        batch = []
        for path, id in files[start : start + batch_size]:
            try:
                batch.append((path, pipeline.load(path)._replace(id=id)))
            except ManifestError as error:
                unreadable.append((path, str(error)))
        return batch

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(load, 0)
        for start in range(batch_size, len(files) + batch_size, batch_size):
            batch = coming.result()
            coming = pool.submit(load, start)
            yield batch


class ResultWriter:
    """Writer of masks and tables, image by image, so that an interruption loses nothing before it.

    Args:
        folder: Folder for the results.
        bundle: The bundle.
        images: Path and id of each image.
        options: Options of the command line.
    """

    def __init__(
        self,
        folder: Path,
        bundle: OpenedBundle,
        images: Sequence[tuple[Path, str]],
        options: argparse.Namespace,
    ) -> None:
        self.folder, self.bundle, self.options = folder, bundle, options
        self.decision = bundle.decision
        ids = [id for _, id in images]
        self._names = dict(zip(ids, safe_file_names(ids), strict=True))
        self._class_folders = safe_file_names(self.decision.classes)
        self._without_object: list[tuple[Path, str]] = []
        self._counts = {"images": 0, "positive": 0, "converted": 0, "no_film": 0}

    def __enter__(self) -> "ResultWriter":
        # closed by __exit__
        self._file = (self.folder / TABLE_FILE).open("w", newline="", encoding="utf-8")
        self._table = csv.writer(self._file)
        self._table.writerow(table_header(self.decision))
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def write(self, path: Path, prediction: Prediction, seconds: float) -> None:
        """Write everything of one image.

        Args:
            path: File of the image.
            prediction: Its result.
            seconds: Time that the network took for it.
        """
        if prediction.masks is not None:
            self._write_masks(prediction)
            if self.options.probability_maps:
                maps = np.rint(prediction.probability_map * 65535).astype(np.uint16)
                self._write_planes("probability_maps", prediction.id, maps)
            if self.options.overlays:
                shown = self.bundle.preprocessing.read(path)
                self._write_overlay(shown.to_uint8(self.bundle.preprocessing.window), prediction)
        if self.options.dicom:
            try:
                self._write_dicom(path, prediction)
            except ManifestError as error:  # such as a film without identifiers
                self._without_object.append((path, f"predicted, but no DICOM object: {error}"))
        self._table.writerow(table_row(prediction, seconds))
        self._file.flush()
        self._counts["images"] += 1
        self._counts["positive"] += any(prediction.positive.values())
        self._counts["converted"] += prediction.converted_from_color

    def finish(self, left_out: Sequence[tuple[Path, str]]) -> None:
        """Write the list of files without a prediction, and print what was done."""
        left_out = [*left_out, *self._without_object]
        if left_out:
            with (self.folder / LEFT_OUT_FILE).open("w", newline="", encoding="utf-8") as file:
                table = csv.writer(file)
                table.writerow(["file", "reason"])
                table.writerows([str(path), reason] for path, reason in left_out)
        if self.decision.target == "mask" and self.decision.exclusive and self._counts["images"]:
            names = ["background", *self.decision.classes]
            with (self.folder / "masks" / "values.csv").open("w", newline="") as file:
                csv.writer(file).writerows([("value", "class"), *enumerate(names)])
        print(f"predictions of {self._counts['images']} images: {self.folder}")
        if self._counts["converted"]:
            print(f"{self._counts['converted']} color images were converted to gray")
        if self._counts["no_film"]:
            print(f"{self._counts['no_film']} images are no DICOMs and have no DICOM objects")
        if left_out:
            print(f"{len(left_out)} files were left out: {self.folder / LEFT_OUT_FILE}")

    def _write_masks(self, prediction: Prediction) -> None:
        if self.decision.exclusive:
            self._write_png("masks", prediction.id, prediction.mask)
        elif prediction.masks is not None:
            self._write_planes("masks", prediction.id, prediction.masks.astype(np.uint8) * 255)

    def _write_planes(self, kind: str, id: str, planes: np.ndarray) -> None:
        """Write a PNG for each class; each of several classes has its own folder."""
        for name, plane in zip(self._class_folders, planes, strict=True):
            self._write_png(f"{kind}/{name}" if len(planes) > 1 else kind, id, plane)

    def _write_png(self, subfolder: str, id: str, pixels: np.ndarray) -> None:
        path = self.folder / subfolder / f"{self._names[id]}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())  # imwrite cannot take all paths

    def _write_overlay(self, shown: np.ndarray, prediction: Prediction) -> None:
        """Write the displayed image with the outlines of its masks, uint8 `H x W x C`."""
        gray = np.ascontiguousarray(shown[..., 0])
        color = shown[..., ::-1] if shown.shape[2] == 3 else cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR)
        color = np.ascontiguousarray(color)
        thickness = max(1, round(max(color.shape[:2]) / 400))
        for number, mask in enumerate(() if prediction.masks is None else prediction.masks):
            outlines, _ = cv2.findContours(
                mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
            )
            line = OVERLAY_COLORS[number % len(OVERLAY_COLORS)]
            cv2.drawContours(color, outlines, -1, line, thickness)
        self._write_png("overlays", prediction.id, color)

    def _write_dicom(self, path: Path, prediction: Prediction) -> None:
        from deployment.dicom_objects import (
            ClassFinding,
            DicomAlgorithm,
            write_report,
            write_segmentation,
        )

        if not is_dicom(path, None):
            self._counts["no_film"] += 1
            return
        settings = self.bundle.settings
        algorithm = DicomAlgorithm(
            name=settings["title"],
            version=settings["versions"]["medical-lightning"],
            digest=settings["files"][MODEL_FILE],
        )
        place = self.folder / "dicom"
        place.mkdir(exist_ok=True)
        name = self._names[prediction.id]
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
    return ["id", "label", *per_class, "seconds"]


def table_row(prediction: Prediction, seconds: float) -> list[Any]:
    """Return the row of one image in predictions.csv."""
    cells: list[Any] = [prediction.id, prediction.label]
    areas, components = prediction.area_mm2, [box.name for box in prediction.boxes]
    for name in prediction.decision.classes:
        cells += [int(prediction.positive[name]), f"{prediction.probability[name]:.6f}"]
        if prediction.masks is not None:
            area = "" if areas is None else f"{areas[name]:.4f}"
            cells += [prediction.area[name], area, components.count(name)]
    return [*cells, f"{seconds:.4f}"]
