"""SIIM-ACR pneumothorax in its three published layouts."""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from datamodules.arguments import FilePath, PositiveInt, validated
from datamodules.base import ManifestDataModule
from datamodules.errors import MAX_FILE_BYTES, ManifestError
from datamodules.formats.file_content import check_file
from datamodules.formats.file_stamp import file_stamp
from datamodules.formats.image_files import (
    DICOM_SUFFIXES,
    IMAGE_SUFFIXES,
    image_name,
    is_image_file,
    is_junk,
    walk_files,
)
from datamodules.formats.kept_result import SUFFIX, load_result, make_folder, store_result
from datamodules.formats.mask_images import read_mask
from datamodules.formats.rle import EMPTY_TEXT, Rle, decode_rle, decode_siim, scale_rle
from datamodules.formats.tables import find_separator
from datamodules.manifest.manifest import Manifest
from datamodules.manifest.validation import CleaningReport
from datamodules.phantoms.folder import MARKER_FILE

COMPETITION_SIZE = 1024  # pixels, side of all images of the competition
CSV_COLUMNS = ("ImageId", "EncodedPixels")  # the published file has a blank before the second
csv.field_size_limit(
    2**27
)  # bytes; a detailed mask of a large image exceeds the module's limit of 131,072


def read_siim_csv(path: Path, max_bytes: int | None = None) -> dict[str, list[str]]:
    """Read the RLE texts of each ImageId, in file order; `decode_siim` decodes them.

    Args:
        path: A .csv or .csv.gz; further columns are ignored.
        max_bytes: Largest content that is read, see `check_file`.

    Raises:
        ManifestError: The file is missing or unreadable, lacks a column or has no row; a row has
            too few values; or an image is both empty and annotated.
    """
    texts: dict[str, list[str]] = {}
    for number, image, text in _csv_rows(path, max_bytes):
        if not image or text is None:
            raise ManifestError(
                f"{path}: row {number} has no {CSV_COLUMNS[1] if image else CSV_COLUMNS[0]};"
                " complete or remove it"
            )
        texts.setdefault(image, []).append(text)
    if not texts:
        raise ManifestError(
            f"{path} has no rows below its header; restore the file, or name the file with the"
            " annotations"
        )
    for image, own in texts.items():
        if 0 < sum(text in ("", EMPTY_TEXT) for text in own) < len(own):
            raise ManifestError(
                f"{path}: image '{image}' has a row {EMPTY_TEXT} (no mask) and a row with a mask;"
                " remove the wrong row"
            )
    return texts


def has_mask_column(path: Path) -> bool:
    """Return True if the table has the column EncodedPixels, which a list of patients lacks."""
    if not path.is_file():
        return False
    try:
        with (gzip.open if path.suffix == ".gz" else open)(
            path, "rt", newline="", encoding="utf-8-sig"
        ) as file:
            first = file.readline(MAX_FILE_BYTES)
            header = next(csv.reader([first], delimiter=find_separator(first)), [])
            return CSV_COLUMNS[1] in [name.strip() for name in header]
    except (OSError, EOFError, UnicodeDecodeError, csv.Error):
        return False


def write_siim_csv(
    path: Path, texts: dict[str, str], problems: Mapping[str, str] | None = None
) -> None:
    """Write one row per image under the competition's header `ImageId,EncodedPixels`.

    Args:
        path: The file; it is gzipped if its name ends in .gz.
        texts: RLE text of each image.
        problems: Reason of each image that has no text. Its row says `unreadable`, which no reader
            takes for an empty mask, and the reason is in a third column.
    """
    rows: list[Sequence[str]] = [CSV_COLUMNS, *texts.items()]
    if problems:
        rows = [(*row, "") for row in rows]
        rows[0] = (*CSV_COLUMNS, "problem")
        rows += [(id, "unreadable", reason) for id, reason in problems.items()]
    with (gzip.open if path.suffix == ".gz" else open)(
        path, "wt", newline="", encoding="utf-8"
    ) as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _csv_rows(path: Path, max_bytes: int | None) -> list[tuple[int, str, str | None]]:
    """Return line number, id and RLE text of every row that is not blank."""
    check_file(path, max_bytes, "restore the file or name another")
    try:
        content = io.BytesIO(_read_table_bytes(path, max_bytes or MAX_FILE_BYTES))
        with io.TextIOWrapper(content, encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            separator = find_separator(first)
            header = [name.strip() for name in next(csv.reader([first], delimiter=separator), [])]
            reader = csv.reader(file, delimiter=separator)
            missing = [name for name in CSV_COLUMNS if name not in header]
            if missing:
                problem = (
                    f"has no column {' and no '.join(missing)}, only"
                    f" {', '.join(header) or 'an empty line'}"
                )
                raise ManifestError(
                    f"{path} {problem}; name the competition's CSV, or rename the columns to"
                    f" {', '.join(CSV_COLUMNS)}"
                )
            id, pixels = map(header.index, CSV_COLUMNS)
            return [
                (
                    reader.line_num + 1,
                    row[id].strip() if id < len(row) else "",
                    _plain_text(row[pixels]) if pixels < len(row) else None,
                )
                for row in reader
                if row
            ]
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error) as error:
        raise ManifestError(
            f"{path} cannot be read as a CSV ({error}); restore the file from its source"
        ) from error


def _read_table_bytes(path: Path, max_bytes: int) -> bytes:
    """Return the content of a table, unpacked, which is refused above a limit."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ManifestError(
            f"{path} unpacks to more than {max_bytes:,} bytes; restore it from its source"
        )
    if b"\0" in data:
        raise ManifestError(f"{path} holds NUL bytes, so it is no CSV; restore it from its source")
    return data


def _plain_text(text: str) -> str:
    """Return the RLE text of a cell; pandas writes an empty cell as nan."""
    return EMPTY_TEXT if text.strip().lower() in ("nan", "none", "null") else text.strip()


PNG_NAME_PATTERN = re.compile(r"(\d+)_(train|test)_([01])_$")  # index_split_LABEL_
LAYOUT_DESCRIPTION = (
    "DICOM files with a CSV of ImageId,EncodedPixels; png_images and png_masks; images and masks"
)
ROOT_HINT = "set datamodule.root to the folder that holds one of them"


@dataclass(frozen=True)
class ImageRecord:
    """One image of a layout with its annotation.

    Attributes:
        id: Unique name.
        image: Image file.
        rle_texts: RLE texts, if the masks are in a CSV.
        mask: Mask file, if it has one.
        split: `train` or `test`; None if the layout has no split.
        label: 1 with pneumothorax, 0 without; None if the layout has no labels.
    """

    id: str
    image: Path
    rle_texts: tuple[str, ...] | None = None
    mask: Path | None = None
    split: str | None = None
    label: int | None = None


def list_images(
    root: Path, unmatched: str, cleaning: CleaningReport, max_bytes: int | None = None
) -> list[ImageRecord]:
    """List every annotated image below `root` and detect its layout.

    Args:
        root: The data set's folder.
        unmatched: Action for images without an annotation and annotations without an image: `drop`,
            or `refuse`.
        cleaning: Report of what was dropped.
        max_bytes: Largest table of annotations that is read, see `check_file`.

    Raises:
        ManifestError: There is no layout, or more than one; or unmatched files are refused.
    """
    layouts = {name: place for name, find in LAYOUT_FINDERS.items() if (place := find(root))}
    if len(layouts) != 1:
        problem = (
            f"holds several layouts ({', '.join(layouts)})"
            if layouts
            else "holds none of the layouts of SIIM-ACR"
        )
        raise ManifestError(f"{root} {problem}: {LAYOUT_DESCRIPTION}; {ROOT_HINT}")
    name, place = next(iter(layouts.items()))
    listers: dict[str, Callable[[Path, str, CleaningReport], Iterator[ImageRecord]]] = {
        "kaggle": partial(_list_kaggle, max_bytes=max_bytes),
        "png": _list_png,
        "tree": _list_tree,
    }
    images = list(listers[name](place, unmatched, cleaning))
    if not images:
        raise ManifestError(f"{place} holds no image that its annotations name; {ROOT_HINT}")
    return images


def _find_kaggle_root(root: Path) -> Path | None:
    return root if _list_tables(root) and next(_iter_dicoms(root), None) is not None else None


def _list_tables(root: Path) -> list[Path]:
    """Return the CSVs of a folder, gzipped or not, by name."""
    tables = sorted([*root.glob("*.csv"), *root.glob("*.csv.gz")])
    return [path for path in tables if not is_junk(path)]


def _find_png_root(root: Path) -> Path | None:
    return root if (root / "png_images").is_dir() and (root / "png_masks").is_dir() else None


def _find_tree_root(root: Path) -> Path | None:
    return next(
        (
            place
            for place in (root, root / "siim-acr-png")
            if (place / "images").is_dir() and (place / "masks").is_dir()
        ),
        None,
    )


def _iter_dicoms(root: Path) -> Iterator[Path]:
    """Yield every DICOM file below `root`, known by its suffix or content."""
    other = IMAGE_SUFFIXES - DICOM_SUFFIXES | {".csv", ".gz"}
    for path in walk_files(root):
        if path.suffix.lower() not in other and is_image_file(path):
            yield path


LAYOUT_FINDERS = {"kaggle": _find_kaggle_root, "png": _find_png_root, "tree": _find_tree_root}


def _list_kaggle(
    root: Path, unmatched: str, cleaning: CleaningReport, max_bytes: int | None
) -> Iterator[ImageRecord]:
    texts = read_siim_csv(_find_annotations(root), max_bytes)
    files: dict[str, Path] = {}
    for path in sorted(_iter_dicoms(root)):
        if files.setdefault(image_name(path), path) != path:
            cleaning.count("second DICOM of the same name: left out", str(path))
    texts = {_match_name(image, files): own for image, own in texts.items()}
    _count_unmatched(
        root,
        sorted(texts.keys() - files.keys()),
        "row of the CSV without its DICOM",
        unmatched,
        cleaning,
    )
    _count_unmatched(
        root,
        sorted(files.keys() - texts.keys()),
        "DICOM without a row in the CSV",
        unmatched,
        cleaning,
    )
    for image, own in texts.items():
        if image in files:
            yield ImageRecord(image, files[image], rle_texts=tuple(own))


def _match_name(image: str, files: Mapping[str, Path]) -> str:
    """Return the file's name that an ImageId means: also with a suffix, or without its zeros."""
    if image in files:
        return image
    bare = image_name(Path(image))
    if bare in files or not bare.isdecimal():
        return bare
    same = [name for name in files if name.isdecimal() and int(name) == int(bare)]
    return same[0] if len(same) == 1 else bare


def _find_annotations(root: Path) -> Path:
    """Return the one CSV with the column EncodedPixels."""
    tables = _list_tables(root)
    named = [path for path in tables if "rle" in path.name or "train" in path.name] or tables
    named = [path for path in named if has_mask_column(path)] or named
    if len(named) != 1:
        names = ", ".join(path.name for path in named)
        raise ManifestError(
            f"{root} has {len(named)} tables that could be the annotations ({names}); leave one"
            " with ImageId,EncodedPixels there"
        )
    return named[0]


def _list_png(root: Path, unmatched: str, cleaning: CleaningReport) -> Iterator[ImageRecord]:
    names = _read_new_names(root)
    for image, mask in _pair_files(
        root / "png_images", root / "png_masks", root, unmatched, cleaning
    ):
        match = PNG_NAME_PATTERN.match(image.stem)
        if not match:
            raise ManifestError(
                f"{image} is not named index_split_label_.png, such as 2744_train_1_.png; restore"
                " the name"
            )
        yield ImageRecord(
            names.get(image.name, image.stem), image, mask=mask, split=match[2], label=int(match[3])
        )


def _read_new_names(root: Path) -> dict[str, str]:
    """Map new file names to ImageIds by the tables next to the folders.

    Lists of patients use the ImageIds, not the new names.
    """
    names: dict[str, str] = {}
    for path in sorted(root.glob("stage_*_images.csv")):
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        missing = {"new_filename", "ImageId"} - set(rows[0] if rows else ())
        if missing:
            raise ManifestError(
                f"{path} has no column {min(missing)}; restore the file, or remove it to use the"
                f" file"
                " names"
            )
        names |= {row["new_filename"]: row["ImageId"] for row in rows}
    return names


def _list_tree(root: Path, unmatched: str, cleaning: CleaningReport) -> Iterator[ImageRecord]:
    for split in ("train", "test"):
        if (root / "images" / split).is_dir():
            for image, mask in _pair_files(
                root / "images" / split, root / "masks" / split, root, unmatched, cleaning
            ):
                yield ImageRecord(f"{split}/{image.stem}", image, mask=mask, split=split)


def _pair_files(
    images: Path, masks: Path, root: Path, unmatched: str, cleaning: CleaningReport
) -> Iterator[tuple[Path, Path]]:
    files, mask_files = (
        {path.name: path for path in sorted(folder.glob("*.png")) if not is_junk(path)}
        for folder in (images, masks)
    )
    _count_unmatched(
        root,
        sorted(str(files[name]) for name in files.keys() - mask_files.keys()),
        "image without its mask",
        unmatched,
        cleaning,
    )
    _count_unmatched(
        root,
        sorted(str(mask_files[name]) for name in mask_files.keys() - files.keys()),
        "mask without its image",
        unmatched,
        cleaning,
    )
    return ((files[name], mask_files[name]) for name in files if name in mask_files)


def _count_unmatched(
    root: Path, names: list[str], what: str, unmatched: str, cleaning: CleaningReport
) -> None:
    if names and unmatched == "refuse":
        raise ManifestError(
            f"{root}: {len(names)} times a {what}, such as '{names[0]}'; complete the download, or"
            " set datamodule.unmatched=drop"
        )
    for name in names:
        cleaning.count(f"{what}: left out", name)


@validated
class PneumothoraxDataModule(ManifestDataModule):
    """SIIM-ACR pneumothorax: one row per image with its mask and label.

    Args:
        patients: CSV with the columns image and patient; None treats every image as its own
            patient.
        unmatched: `drop` and count images without an annotation and annotations without an image,
            or `refuse` them.
        relative: True if the RLE texts count from the end of the previous run, as Kaggle's do;
            False if they hold the starts of runs.
        rle_size: Side in pixels of the images that the RLE texts were made for; their masks are
            scaled to other images. `image` is the size of each image itself. None is the 1024 of
            the competition, and refuses images of another size.
        **base: As `ManifestDataModule`; `root` is the data set's folder.
    """

    image_kind = "chest radiographs"

    def __init__(
        self,
        patients: FilePath | None = None,
        unmatched: Literal["drop", "refuse"] = "drop",
        relative: bool = True,
        rle_size: PositiveInt | Literal["image"] | None = None,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.patients = Path(patients).expanduser() if patients else None
        self.unmatched = unmatched
        self.relative = relative
        self.rle_size = rle_size

    def manifest(self) -> Manifest:
        """Return the annotated images; `self.cleaning` lists what was left out."""
        images = list_images(self.root, self.unmatched, self.cleaning, self.max_file_bytes)
        labels = self._read_labels(images)
        rows = [self._row(image, label) for image, label in zip(images, labels, strict=True)]
        table = pd.DataFrame(rows)
        if table["split"].isna().all():
            table = table.drop(columns="split")
        if self.patients:
            table["group"] = self._read_patients(table["id"], self.patients)
        return Manifest(table, ("pneumothorax",), "patient" if self.patients else "image")

    def _row(self, image: ImageRecord, label: int) -> dict[str, Any]:
        if image.label is not None and image.label != label:
            self.cleaning.count(
                f"label {image.label} in the name and {label} by the mask: the mask is used",
                image.id,
            )
        row: dict[str, Any] = {
            "id": image.id,
            "image": str(image.image),
            "label": label,
            "split": image.split,
        }
        return row | {"mask": self._mask(image) if image.rle_texts else str(image.mask)}

    def _mask(self, image: ImageRecord) -> list[Any] | None:
        """Return the union of an image's RLE texts; the image's size is read from its header."""
        if not _has_mask(image.rle_texts):
            return None
        if len(image.rle_texts or ()) > 1:
            self.cleaning.count("mask in several rows: joined", image.id)
        return [self._rle(image)]

    def _rle(self, image: ImageRecord) -> Rle | None:
        height, width = self.reader.read_size(image.image)
        made_for = self._rle_side(image, height, width)
        try:
            rle = decode_siim(image.rle_texts or (), *made_for, self.relative)
            return rle if made_for == (height, width) else scale_rle(rle, height, width)
        except ValueError as error:
            other = "false" if self.relative else "true"
            fix = (
                f"correct the row, or set datamodule.relative={other} if the numbers are"
                f" {'starts' if self.relative else 'gaps'}"
            )
            raise ManifestError(f"{self.root}: ImageId {image.id}: {error}; {fix}") from error

    def _rle_side(self, image: ImageRecord, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the image that an RLE text was made for.

        Raises:
            ManifestError: The image has another size, or another shape, than the text.
        """
        if self.rle_size == "image" or self._are_phantoms:
            return height, width
        side = COMPETITION_SIZE if self.rle_size is None else self.rle_size
        if (height, width) != (side, side) and (self.rle_size is None or height != width):
            raise ManifestError(
                f"{self.root}: image {image.id} is {height} x {width} pixels, and the run lengths"
                f" of the competition are made for {side} x {side}, which they do not say; set"
                f" datamodule.rle_size={side} to scale the masks to square images, or"
                " datamodule.rle_size=image if they are made for these images"
            )
        return side, side

    @cached_property
    def _are_phantoms(self) -> bool:
        """True for our own phantoms, whose texts are made for their images."""
        return (self.root / MARKER_FILE).is_file()

    def _covers_image(self, image: ImageRecord) -> bool:
        """Return True if the RLE texts cover the whole image; swapped, such a mask is empty."""
        rle = self._rle(image)
        return rle is not None and bool(decode_rle([rle], *rle["size"]).all())

    def _read_labels(self, images: list[ImageRecord]) -> list[int]:
        """Return 1 for each mask that is not empty, else 0.

        Mask files are read once, and their labels are stored next to the image cache.
        """
        if images[0].mask is None:
            return [
                int(
                    _has_mask(image.rle_texts)
                    and not (self.inverted_masks == "invert" and self._covers_image(image))
                )
                for image in images
            ]
        paths = [Path(str(image.mask)) for image in images]
        stamps = "\n".join(f"{path} {file_stamp(path)}" for path in paths)
        swap = self.inverted_masks == "invert"
        key = sha256(f"{swap} {stamps}".encode()).hexdigest()[:16]
        # increase the number 2 when the reading of masks changes
        labels_file = self.cache_dir / f"labels-2-{key}{SUFFIX}"
        labels = load_result(labels_file)
        if labels is None:
            with ThreadPoolExecutor() as pool:
                masks = pool.map(lambda path: read_mask(path, reader=self.reader).mask, paths)
                labels = [int((mask != swap).any()) for mask in masks]
            make_folder(self.cache_dir)
            store_result(labels_file, labels)
        return labels

    def _read_patients(self, ids: pd.Series, path: Path) -> np.ndarray:
        check_file(path, self.max_file_bytes, "name a CSV with the columns image,patient")
        try:
            table = pd.read_csv(path, dtype=str)
        except (OSError, ValueError) as error:
            raise ManifestError(
                f"datamodule.patients={path} cannot be read ({error}); name a CSV with the columns"
                " image,patient"
            ) from error
        missing = {"image", "patient"} - set(table.columns)
        if missing:
            raise ManifestError(
                f"{path} has no column {min(missing)} (it has {', '.join(table.columns)}); write"
                " image,patient"
            )
        table = table.drop_duplicates(["image", "patient"])
        twice = table["image"][table["image"].duplicated()]
        if len(twice):
            raise ManifestError(
                f"{path} gives '{twice.iloc[0]}' two patients; keep one row for each image"
            )
        patient = ids.map(table.set_index("image")["patient"])
        if patient.isna().all():
            raise ManifestError(
                f"{path} names none of the images, such as '{ids.iloc[0]}'; write their ids into"
                " its column image"
            )
        for id in ids[patient.isna()]:
            self.cleaning.count("patient unknown: the image is its own group", id)
        return patient.to_numpy()


def _has_mask(texts: tuple[str, ...] | None) -> bool:
    return any(text not in ("", "-1") for text in texts or ())
