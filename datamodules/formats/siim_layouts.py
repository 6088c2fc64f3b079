"""The three layouts in which SIIM-ACR pneumothorax is redistributed, detected by their files.

They are Kaggle's DICOM + CSV, and two of PNGs.
"""

import csv
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datamodules.cleaning import CleaningReport
from datamodules.formats.siim_csv import has_masks, read_siim_csv
from datamodules.refusal import ManifestError

PNG_NAME = re.compile(r"(\d+)_(train|test)_([01])_$")  # index_split_LABEL_
NAMES_FILE = (
    "DICOM files with a CSV of ImageId,EncodedPixels; png_images and png_masks; images and masks"
)
DATA_ROOT_HINT = "set datamodule.root to the folder that holds one of them"


@dataclass(frozen=True)
class ImageRecord:
    """An image as its layout lists it.

    Attributes:
        id: Unique name.
        image: The file.
        texts: RLE texts, where the masks are in a CSV.
        mask: The mask's file, where it has one.
        split: `train` or `test`, where the layout says so.
        label: 1 with pneumothorax, where the layout says so.
    """

    id: str
    image: Path
    texts: tuple[str, ...] | None = None
    mask: Path | None = None
    split: str | None = None
    label: int | None = None


def list_images(root: Path, unmatched: str, cleaning: CleaningReport) -> list[ImageRecord]:
    """List every annotated image below `root`, in whichever of the layouts.

    Args:
        root: The data set's folder.
        unmatched: What to do with images without annotation and annotations without image: `drop`,
            or `refuse`.
        cleaning: Takes the counts of what was dropped.

    Raises:
        ManifestError: no layout or two, or unmatched files that are to be refused.
    """
    found = {name: place for name, look in LAYOUTS.items() if (place := look(root))}
    if len(found) != 1:
        said = (
            f"holds several layouts ({', '.join(found)})"
            if found
            else "holds none of the layouts of SIIM-ACR"
        )
        raise ManifestError(f"{root} {said}: {NAMES_FILE}; {DATA_ROOT_HINT}")
    name, place = next(iter(found.items()))
    images = list(
        {"kaggle": _list_kaggle, "png": _list_png, "tree": _list_tree}[name](
            place, unmatched, cleaning
        )
    )
    if not images:
        raise ManifestError(f"{place} holds no image that its annotations name; {DATA_ROOT_HINT}")
    return images


def _is_kaggle(root: Path) -> Path | None:
    tables = any(root.glob("*.csv")) or any(root.glob("*.csv.gz"))
    return root if tables and next(_dicoms(root), None) is not None else None


def _is_png(root: Path) -> Path | None:
    return root if (root / "png_images").is_dir() and (root / "png_masks").is_dir() else None


def _is_tree(root: Path) -> Path | None:
    return next(
        (
            place
            for place in (root, root / "siim-acr-png")
            if (place / "images").is_dir() and (place / "masks").is_dir()
        ),
        None,
    )


def _visit(place: Path, seen: set[Path]) -> bool:
    """Add a folder to those seen; False where it was seen before."""
    new = place not in seen
    seen.add(place)
    return new


def _dicoms(root: Path) -> Iterator[Path]:
    """Yield every DICOM file below `root`, behind links to folders too.

    rglob leaves those out. A cycle of links is walked once.
    """
    seen: set[Path] = set()
    for folder, below, names in os.walk(root, followlinks=True):
        below[:] = [name for name in below if _visit(Path(folder, name).resolve(), seen)]
        yield from (Path(folder, name) for name in names if name.lower().endswith(".dcm"))


LAYOUTS = {"kaggle": _is_kaggle, "png": _is_png, "tree": _is_tree}


def _list_kaggle(root: Path, unmatched: str, cleaning: CleaningReport) -> Iterator[ImageRecord]:
    texts = read_siim_csv(_find_annotations(root))
    files: dict[str, Path] = {}
    for path in sorted(_dicoms(root)):
        if files.setdefault(path.stem, path) != path:
            cleaning.count("second DICOM of the same name: left out", str(path))
    _match_masks(
        root,
        sorted(texts.keys() - files.keys()),
        "row of the CSV without its DICOM",
        unmatched,
        cleaning,
    )
    _match_masks(
        root,
        sorted(files.keys() - texts.keys()),
        "DICOM without a row in the CSV",
        unmatched,
        cleaning,
    )
    for image, own in texts.items():
        if image in files:
            yield ImageRecord(image, files[image], texts=tuple(own))


def _find_annotations(root: Path) -> Path:
    """Return the one CSV with the column EncodedPixels."""
    tables = sorted([*root.glob("*.csv"), *root.glob("*.csv.gz")])
    named = [path for path in tables if "rle" in path.name or "train" in path.name] or tables
    named = [path for path in named if has_masks(path)] or named
    if len(named) != 1:
        names = ", ".join(path.name for path in named)
        raise ManifestError(
            f"{root} has {len(named)} tables that could be the annotations ({names}); leave one"
            " with ImageId,EncodedPixels there"
        )
    return named[0]


def _list_png(root: Path, unmatched: str, cleaning: CleaningReport) -> Iterator[ImageRecord]:
    names = _read_new_names(root)
    for image, mask in _pairs(root / "png_images", root / "png_masks", root, unmatched, cleaning):
        said = PNG_NAME.match(image.stem)
        if not said:
            raise ManifestError(
                f"{image} is not named index_split_label_.png, such as 2744_train_1_.png; restore"
                " the name"
            )
        yield ImageRecord(
            names.get(image.name, image.stem), image, mask=mask, split=said[2], label=int(said[3])
        )


def _read_new_names(root: Path) -> dict[str, str]:
    """Map new file names to ImageIds by the tables beside the folders.

    ImageIds join with lists of patients, the new names do not.
    """
    names: dict[str, str] = {}
    for path in sorted(root.glob("stage_*_images.csv")):
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        missing = {"new_filename", "ImageId"} - set(rows[0] if rows else ())
        if missing:
            raise ManifestError(
                f"{path} has no column {min(missing)}; restore the file, or remove it to go by file"
                " names"
            )
        names |= {row["new_filename"]: row["ImageId"] for row in rows}
    return names


def _list_tree(root: Path, unmatched: str, cleaning: CleaningReport) -> Iterator[ImageRecord]:
    for split in ("train", "test"):
        if (root / "images" / split).is_dir():
            for image, mask in _pairs(
                root / "images" / split, root / "masks" / split, root, unmatched, cleaning
            ):
                yield ImageRecord(f"{split}/{image.stem}", image, mask=mask, split=split)


def _pairs(
    images: Path, masks: Path, root: Path, unmatched: str, cleaning: CleaningReport
) -> Iterator[tuple[Path, Path]]:
    files, drawn = (
        {path.name: path for path in sorted(folder.glob("*.png"))} for folder in (images, masks)
    )
    _match_masks(
        root,
        sorted(str(files[name]) for name in files.keys() - drawn.keys()),
        "image without its mask",
        unmatched,
        cleaning,
    )
    _match_masks(
        root,
        sorted(str(drawn[name]) for name in drawn.keys() - files.keys()),
        "mask without its image",
        unmatched,
        cleaning,
    )
    return ((files[name], drawn[name]) for name in files if name in drawn)


def _match_masks(
    root: Path, names: list[str], what: str, unmatched: str, cleaning: CleaningReport
) -> None:
    if names and unmatched == "refuse":
        raise ManifestError(
            f"{root}: {len(names)} times a {what}, '{names[0]}' for one; complete the download, or"
            " set datamodule.unmatched=drop"
        )
    for name in names:
        cleaning.count(f"{what}: left out", name)
