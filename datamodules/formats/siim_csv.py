"""Annotation table of the SIIM-ACR competition: image ids and their run lengths as text."""

import csv
import gzip
from pathlib import Path

from datamodules.formats.rle import EMPTY
from datamodules.refusal import ManifestError

CSV_COLUMNS = ("ImageId", "EncodedPixels")  # the published file has a blank before the second
csv.field_size_limit(
    2**27
)  # bytes; a fine mask of a large image is longer than the 131,072 the module allows


def read_siim_csv(path: Path) -> dict[str, list[str]]:
    """Read the table as ImageId to texts, in file order, see `datamodules.formats.rle.from_siim`.

    Args:
        path: A .csv or .csv.gz; further columns are left alone.

    Raises:
        ManifestError: missing, unreadable, without one of the two columns or any row, a row with
            too few values, or an image that is both empty and annotated.
    """
    texts: dict[str, list[str]] = {}
    for number, image, text in _csv_rows(path):
        if not image or text is None:
            raise ManifestError(
                f"{path}: row {number} has no {CSV_COLUMNS[1] if image else CSV_COLUMNS[0]}; complete or"
                " remove it"
            )
        texts.setdefault(image, []).append(text)
    if not texts:
        raise ManifestError(
            f"{path} holds no rows under its header; restore the file or name the one with the"
            " annotations"
        )
    for image, own in texts.items():
        if 0 < sum(text in ("", EMPTY) for text in own) < len(own):
            raise ManifestError(
                f"{path}: image '{image}' has a row {EMPTY} (no mask) and a row with a mask; remove"
                " the one that is wrong"
            )
    return texts


def has_masks(path: Path) -> bool:
    """Return True if the table has the column EncodedPixels, which a list of patients has not."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(
            path, "rt", newline="", encoding="utf-8-sig"
        ) as file:
            return CSV_COLUMNS[1] in [name.strip() for name in next(csv.reader(file), [])]
    except (OSError, EOFError, UnicodeDecodeError, csv.Error):
        return False


def write_siim_csv(path: Path, texts: dict[str, str]) -> None:
    """Write one row per image under the competition's header `ImageId,EncodedPixels`.

    The file is gzipped if its name ends in .gz.
    """
    with (gzip.open if path.suffix == ".gz" else open)(
        path, "wt", newline="", encoding="utf-8"
    ) as file:
        csv.writer(file, lineterminator="\n").writerows([CSV_COLUMNS, *texts.items()])


def _csv_rows(path: Path) -> list[tuple[int, str, str | None]]:
    """Return line number, id and text of every row that is not blank."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(
            path, "rt", newline="", encoding="utf-8-sig"
        ) as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            missing = [name for name in CSV_COLUMNS if name not in header]
            if missing:
                said = (
                    f"has no column {' and no '.join(missing)}, only"
                    f" {', '.join(header) or 'an empty line'}"
                )
                raise ManifestError(
                    f"{path} {said}; name the competition's CSV, or rename the columns to"
                    f" {', '.join(CSV_COLUMNS)}"
                )
            id, pixels = map(header.index, CSV_COLUMNS)
            return [
                (
                    reader.line_num,
                    row[id].strip() if id < len(row) else "",
                    row[pixels].strip() if pixels < len(row) else None,
                )
                for row in reader
                if row
            ]
    except FileNotFoundError as error:
        raise ManifestError(f"{path} does not exist; restore the file or name another") from error
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(
            f"{path} cannot be read as a CSV ({error}); restore the file from its source"
        ) from error
