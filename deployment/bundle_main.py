"""Command line of a bundle's predict.py: files and folders in, masks and tables out."""

import argparse
import csv
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from datamodules.errors import ManifestError, UnreadableFilesError, UserError
from datamodules.formats.image_files import (
    image_name,
    is_volume,
    reason_for_no_image,
    walk_files,
)
from deployment.bundle_reader import MAX_BATCH, OpenedBundle, open_bundle
from deployment.inference import InferencePipeline, LoadedImage, Prediction
from deployment.result_files import (
    DICOM_OBJECTS,
    LEFT_OUT_FILE,
    TABLE_FILE,
    ModelIdentity,
    ResultFiles,
    ResultOptions,
    table_header,
    table_row,
    write_left_out,
)


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
    """Return why a file is not predicted; empty if it is an image."""
    if is_volume(path):
        return "a volume; predict it with do=[predict], or write its slices as images"
    return reason_for_no_image(path)


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
        self.folder, self.bundle = folder, bundle
        settings = bundle.settings
        identity = ModelIdentity.from_checkpoints(
            settings["run"],
            settings["versions"]["medical-lightning"],
            settings["checkpoints"],
            settings["phantom"],
        )
        chosen = ResultOptions(
            probability_maps=options.probability_maps,
            overlays=options.overlays,
            dicom=tuple(options.dicom),
        )
        ids = [id for _, id in images]
        self._files = ResultFiles(folder, bundle.decision, ids, chosen, identity)
        self._counts = {"images": 0, "converted": 0}

    def __enter__(self) -> "ResultWriter":
        # closed by __exit__
        self._file = (self.folder / TABLE_FILE).open("w", newline="", encoding="utf-8")
        self._table = csv.writer(self._file)
        self._table.writerow(table_header(self.bundle.decision))
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
        preprocessing = self.bundle.preprocessing
        self._files.write(
            prediction, path, lambda: preprocessing.read(path).to_uint8(preprocessing.window)
        )
        self._table.writerow(table_row(prediction, self._files.names[prediction.id], seconds))
        self._file.flush()
        self._counts["images"] += 1
        self._counts["converted"] += prediction.converted_from_color

    def finish(self, left_out: Sequence[tuple[Path, str]]) -> None:
        """Write the list of files without a prediction, and print what was done."""
        left_out = [*left_out, *self._files.without_object]
        if left_out:
            write_left_out(self.folder, [(str(path), reason) for path, reason in left_out])
        self._files.write_values()
        print(f"predictions of {self._counts['images']} images: {self.folder}")
        if self._counts["converted"]:
            print(f"{self._counts['converted']} color images were converted to gray")
        if self._files.without_film:
            print(f"{self._files.without_film} images are no DICOMs and have no DICOM objects")
        if left_out:
            print(f"{len(left_out)} files were left out: {self.folder / LEFT_OUT_FILE}")
