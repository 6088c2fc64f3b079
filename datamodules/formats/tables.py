"""Layouts of tables: CSV, TSV or XLSX with one row per image, or several."""

import csv
import io
import re
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from datamodules.errors import MAX_FILE_BYTES, ContentError, ManifestError
from datamodules.formats.file_content import (
    check_file,
    parse_json,
    plain_sentence,
    read_bytes,
    shorten,
)
from datamodules.formats.layout import (
    SPLIT_WORDS,
    FolderTree,
    ImageRecord,
    Layout,
    LayoutContent,
    LayoutOptions,
    Outline,
    first_repeated,
    folder_of,
    list_files,
    split_of,
)
from datamodules.formats.rle import Rle, decode_siim, scale_rle, validate_rle

TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".xlsx")
COLUMN_NAMES: dict[str, tuple[str, ...]] = {  # names of columns that are known, in any case
    "image": (
        *("image", "imageid", "imagepath", "path", "file", "filename", "filepath", "img"),
        *("imagename", "imageindex", "picture", "id"),
    ),
    "mask": ("mask", "maskpath", "maskfile", "segmentation", "encodedpixels", "rle", "maskrle"),
    "label": ("label", "labels", "class", "finding", "findings", "findinglabels", "diagnosis"),
    "group": ("patient", "patientid", "group", "subject", "subjectid", "case", "caseid", "pid"),
    "split": ("split", "set", "subset", "fold_name", "partition"),
}
NO_FINDINGS = {
    "sex",
    "gender",
    "male",
    "female",
    "train",
    "test",
    "val",
    "fold",
    "istrain",
    "istest",
}
EMPTY = {"", "nan", "-1"}  # a mask cell without a mask
MISSING_GROUPS = {"na", "n/a", "null", "none", "nan", "unknown"}
MAX_GROUP_SHARE = 0.5  # a "patient" of more images than this is a placeholder
MAX_HEADER = 2**20  # letters of a first line that are looked at
TRUE, FALSE = {"1", "1.0", "true", "yes", "y"}, {"0", "0.0", "false", "no", "n"}


class TableLayout(Layout):
    """A table that names images, and what its columns are."""

    needs: str

    def match(self, tree: FolderTree, options: LayoutOptions) -> str | None:
        """Recognize tables with a column of images that exist, and one of masks or labels."""
        found = []
        for file in table_files(tree):
            try:
                table = read_table(tree.path(file), tree.reader.max_file_bytes)
            except ManifestError as error:
                if str(error) not in tree.unreadable:
                    tree.unreadable.append(str(error))
                continue
            try:
                columns = find_columns(table, options.columns)
            except ManifestError:  # another table than the one whose columns are named
                continue
            if "image" not in columns or not self._has_truth(table, columns):
                continue
            if any(_find_image(tree, file, name) for name in table[columns["image"]].head(20)):
                found.append(file)
        return list_files(found) if found else None

    def _has_truth(self, table: pd.DataFrame, columns: Mapping[str, Any]) -> bool:
        return self.needs in columns

    def open(
        self, tree: FolderTree, options: LayoutOptions
    ) -> tuple[str, pd.DataFrame, dict[str, Any]]:
        """Return the table's file, its rows as text, and its column of each kind.

        Raises:
            ManifestError: There are several tables, or a column is missing.
        """
        files = [options.table] if options.table else table_files(tree)
        matching = []
        for file in files:
            if file not in tree.files:
                raise ManifestError(f"datamodule.table={file} does not exist below {tree.root}")
            table = read_table(tree.path(file), tree.reader.max_file_bytes)
            if len(files) > 1 and not set(options.columns.values()) <= set(table.columns):
                continue
            columns = find_columns(table, options.columns)
            if "image" in columns and (self._has_truth(table, columns)):
                matching.append((file, table, columns))
        if len(matching) > 1:
            raise ManifestError(
                f"{tree.root} has several tables ({list_files(file for file, *_ in matching)});"
                " name one with datamodule.table=..."
            )
        if not matching:
            listed = "; ".join(
                f"{file}: {', '.join(map(str, read_table(tree.path(file)).columns))}"
                for file in files[:3]
            )
            raise ManifestError(
                f"no table below {tree.root} has columns of images and of {self.needs}s ({listed});"
                f" name them with datamodule.columns={{image: ..., {self.needs}: ..., group: ...}}"
            )
        return matching[0]


class LabelTable(TableLayout):
    """A table of images and their labels: names, `A|B`, 0 and 1, or one column per finding."""

    name = "label_table"
    task = "labels"
    needs = "label"
    looks_for = "a CSV, TSV or XLSX with a column of images and one of labels"

    def _has_truth(self, table: pd.DataFrame, columns: Mapping[str, Any]) -> bool:
        return "label" in columns or bool(_one_hot_columns(table, columns))

    def read(self, tree: FolderTree, options: LayoutOptions) -> LayoutContent:
        """Read one record per row; names that no file has are counted."""
        file, table, columns = self.open(tree, options)
        findings = [] if "label" in columns else _one_hot_columns(table, columns)
        counted, records = [], []
        for number, row in enumerate(_rows(table), start=2):
            image = _find_image(tree, file, row[columns["image"]])
            if image is None:
                counted.append(("row without an image: left out", str(row[columns["image"]])))
                continue
            where = f"{tree.path(file)}: row {number}"
            record = ImageRecord(image, _row_split(row, columns, image, where))
            _set_group(record, row, columns, counted)
            if findings:
                record.label = [name for name in findings if _is_true(row[name], name, where)]
            else:
                text = row[columns["label"]].strip()
                record.annotated = text.casefold() not in ("", "nan")
                record.label = text
            records.append(record)
        _check_images(tree, file, records, table, columns)
        names = findings or _label_names(records, f"{tree.path(file)}: {columns['label']}")
        group_is = _group_is(tree, records, columns)
        return LayoutContent(records, names, group_is=group_is, counted=counted)


class MaskTable(TableLayout):
    """A table of images and their masks: paths of mask images, or run lengths."""

    name = "mask_table"
    task = "masks"
    needs = "mask"
    looks_for = "a CSV, TSV or XLSX with a column of images and one of masks"
    specializes = ("image_mask_folders", "image_mask_pairs")

    def read(self, tree: FolderTree, options: LayoutOptions) -> LayoutContent:
        """Read one record per image; several rows of one image are joined."""
        file, table, columns = self.open(tree, options)
        counted: list[tuple[str, str]] = []
        records: dict[str, ImageRecord] = {}
        for number, row in enumerate(_rows(table), start=2):
            image = _find_image(tree, file, row[columns["image"]])
            if image is None:
                counted.append(("row without an image: left out", str(row[columns["image"]])))
                continue
            where = f"{tree.path(file)}: row {number}"
            record = records.setdefault(
                image, ImageRecord(image, _row_split(row, columns, image, where))
            )
            _set_group(record, row, columns, counted)
            name = row[columns["label"]].strip() or "lesion" if "label" in columns else "lesion"
            text = row[columns["mask"]].strip()
            _add_mask(tree, file, record, text, name, where, options)
        made = list(records.values())
        _check_images(tree, file, made, table, columns)
        names = sorted({outline.name for record in made for outline in record.outlines})
        masks = any(record.masks for record in made)
        if masks and names:
            raise ManifestError(
                f"{tree.path(file)} mixes paths of masks and run lengths; write one of them"
            )
        classes = names or ([] if masks else ["lesion"])
        return LayoutContent(made, classes, None, None, _group_is(tree, made, columns), counted)


def _check_workbook(path: Path, max_bytes: int) -> None:
    """Refuse an XLSX, which is a zip, whose parts are larger than is read."""
    check_file(path, max_bytes)
    with zipfile.ZipFile(path) as file:
        size = sum(info.file_size for info in file.infolist())
    if size > max_bytes:
        raise ManifestError(
            f"{path} unpacks to {size:,} bytes, above the limit of {max_bytes:,}; save it as CSV,"
            f" or set datamodule.max_file_bytes={size} to read it"
        )


def read_table(path: Path, max_bytes: int = MAX_FILE_BYTES) -> pd.DataFrame:
    """Read a table as text; the separator is found, and blanks around names do not matter.

    A first line that begins with `#` is a comment.

    Args:
        path: The file.
        max_bytes: Largest file that is read, in bytes.

    Raises:
        ManifestError: It cannot be read.
    """
    try:
        if path.suffix.lower() == ".xlsx":
            _check_workbook(path, max_bytes)
            table = pd.read_excel(path, dtype=str, keep_default_na=False)
        else:
            text = decode_text(read_bytes(path, max_bytes))
            if "\0" in text:
                raise ManifestError(
                    f"{path} cannot be read as a table (it holds NUL bytes); export it again"
                )
            if text.startswith("#"):
                text = text.partition("\n")[2]
            check_header(text, path)
            table = pd.read_csv(
                io.BytesIO(text.encode()),  # StringIO takes four bytes a letter
                sep=find_separator(text),
                dtype=str,
                keep_default_na=False,
                skipinitialspace=True,
            )
    except ImportError as error:
        raise ManifestError(
            f"{path} needs the package openpyxl; pip install openpyxl, or save it as CSV"
        ) from error
    except ManifestError:
        raise
    except Exception as error:  # openpyxl and pandas raise anything for damaged files
        reason = plain_sentence(error)
        raise ManifestError(f"{path} cannot be read as a table ({reason})") from error
    table.columns = [str(name).strip() for name in table.columns]
    return table


_UTF8_LETTER = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}")


def decode_text(data: bytes) -> str:
    """Decode a text file: UTF-8, UTF-16 with its mark, else the code page of Western Windows.

    Raises:
        ValueError: It is none of them, or a part of it is UTF-8, and a name would be read as two.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if _UTF8_LETTER.search(data):
            raise ValueError("only a part of it is UTF-8; save it as UTF-8") from error
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError as error:
        raise ValueError("it is not in UTF-8; save it as UTF-8") from error


def check_header(text: str, path: Path) -> None:
    """Refuse a table with two columns of one name, of which only the first would be read.

    Raises:
        ManifestError: The message names the column.
    """
    line = next(iter(text[:MAX_HEADER].splitlines()), "")
    names = [name.strip() for name in next(csv.reader([line], delimiter=find_separator(line)), [])]
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise ManifestError(
            f"{path} has the column '{shorten(twice[0], 60)}' twice; rename or remove one"
        )


def find_separator(text: str) -> str:
    """Return the separator of a table, by its first line."""
    first = text.partition("\n")[0]
    counts = {mark: first.count(mark) for mark in ",;\t"}
    best = max(counts, key=lambda mark: counts[mark])
    return best if counts[best] else ","


def find_columns(table: pd.DataFrame, named: Mapping[str, str]) -> dict[str, Any]:
    """Return the column of each kind: as the user names it, else by its usual names.

    Raises:
        ManifestError: A named column does not exist, or a kind is unknown.
    """
    found: dict[str, Any] = {}
    for kind, column in named.items():
        if kind not in COLUMN_NAMES:
            raise ManifestError(
                f"datamodule.columns has the key {kind}; the keys are {', '.join(COLUMN_NAMES)}"
            )
        if column not in table:
            raise ManifestError(
                f"datamodule.columns.{kind}={column} is no column of the table, which has"
                f" {', '.join(map(str, table.columns))}"
            )
        found[kind] = column
    plain = {
        re.sub(r"[^a-z0-9]", "", str(column).lower()): column for column in reversed(table.columns)
    }
    for kind, names in COLUMN_NAMES.items():
        if kind not in found:
            usual = next((plain[name] for name in names if name in plain), None)
            if usual is not None and usual not in found.values():
                found[kind] = usual
    return found


def _rows(table: pd.DataFrame) -> list[dict[str, str]]:
    return [{str(name): text for name, text in row.items()} for row in table.to_dict("records")]


def table_files(tree: FolderTree) -> list[str]:
    """Return the files of a folder that may be tables."""
    return [
        file
        for file in tree.with_suffix(*TABLE_SUFFIXES)
        if not PurePosixPath(file).name.lower().startswith(("readme", "license", "labelmap"))
    ]


def _find_image(tree: FolderTree, file: str, name: Any) -> str | None:
    """Return the image that a cell names: a path, or a name with, without or of another suffix."""
    text = str(name).strip()
    if not text:
        return None
    found = tree.locate(text, folder_of(file), tree.is_image)
    return found or tree.locate_image_stem(text, folder_of(file))


def _row_split(
    row: Mapping[str, str], columns: Mapping[str, Any], image: str, where: str
) -> str | None:
    if "split" not in columns:
        return split_of(image)
    text = row[columns["split"]].strip().lower()
    found = next((split for split, names in SPLIT_WORDS.items() if text in names), None)
    if found is None and text:
        raise ManifestError(
            f"{where} has the split '{text}'; write train, val or test, or name another column with"
            " datamodule.columns.split"
        )
    return found


def _one_hot_columns(table: pd.DataFrame, columns: Mapping[str, Any]) -> list[str]:
    """Return the columns that hold nothing but 0 and 1 (or yes and no), at least two of them."""
    known = set(columns.values())
    found = [
        str(name)
        for name in table.columns
        if name not in known
        and re.sub(r"[^a-z]", "", str(name).lower()) not in NO_FINDINGS
        and set(table[name].str.strip().str.lower()) <= TRUE | FALSE
        and len(table)
    ]
    return found if len(found) > 1 else []


def _is_true(text: str, name: str, where: str) -> bool:
    value = text.strip().lower()
    if value in TRUE or value in FALSE:
        return value in TRUE
    raise ManifestError(f"{where} has {name}='{text}'; write 0 or 1")


def _label_names(records: Sequence[ImageRecord], where: str) -> list[str]:
    """Return the names of the classes, and make lists of labels such as `A|B`.

    Raises:
        ManifestError: All labels are numbers, and one is no whole number from 0: a measurement, the
            share of readers, or the -1 of CheXpert for uncertain findings is no class.
    """
    used = [record for record in records if record.annotated]
    texts = sorted({str(record.label) for record in used})
    if odd := _measurement(texts):
        raise ManifestError(
            f"{where} holds the number {shorten(odd, 40)}, which is no class; leave the cell empty"
            " if it means unknown, write whole numbers from 0 or names, such as 0 and 1 for below"
            " and above a threshold"
        )
    if any("|" in text for text in texts):
        for record in used:
            parts = [part.strip() for part in str(record.label).split("|")]
            record.label = [part for part in parts if part.casefold() not in NO_FINDING]
        return sorted({name for record in used for name in record.label or ()})
    numbers = {text: _number_name(text) for text in texts}
    if set(numbers.values()) <= {"0", "1"}:  # a column of 0 and 1, also written 1.0 or True
        for record in used:
            record.label = "positive" if numbers[str(record.label)] == "1" else "negative"
        return sorted({str(record.label) for record in used})
    for record in used:
        record.label = numbers[str(record.label)]
    return sorted({str(record.label) for record in used})


def _measurement(texts: Sequence[str]) -> str | None:
    """Return a text that is no whole number from 0 if all are numbers; None if there is none."""
    try:
        odd = [text for text in texts if not float(text).is_integer() or float(text) < 0]
    except ValueError:
        return None
    return odd[0] if odd else None


NO_FINDING = {"no finding", "no_finding", "none", "normal", ""}


def _number_name(text: str) -> str:
    """Return 1 for 1.0, true and yes, and 0 for their opposites; other texts unchanged."""
    low = text.lower()
    if low in TRUE - {"y"}:
        return "1"
    return "0" if low in FALSE - {"n"} else re.sub(r"^(\d+)\.0$", r"\1", text)


def _set_group(
    record: ImageRecord,
    row: Mapping[str, str],
    columns: Mapping[str, Any],
    counted: list[tuple[str, str]],
) -> None:
    """Set the group of a record to that of its row; count an empty cell."""
    if "group" in columns:
        record.group = row[columns["group"]].strip() or None
        if record.group is None:
            counted.append(("patient unknown: the image is its own group", record.image))


def _group_is(tree: FolderTree, records: Sequence[ImageRecord], columns: Mapping[str, Any]) -> str:
    """Return what groups are; refuse a placeholder that would join most images."""
    if "group" not in columns:
        return "image"
    groups = [str(record.group) for record in records if record.group]
    check_groups(groups, len(records), columns["group"], tree.root)
    return "patient"


def check_groups(groups: Sequence[str], images: int, column: str, where: Path) -> None:
    """Refuse groups of which one is a placeholder for unknown patients.

    Args:
        groups: Group of each image that has one.
        images: Number of images.
        column: Name of the column, for the message.
        where: Table or folder, for the message.

    Raises:
        ManifestError: More than half of the images have a group such as NA.
    """
    for name in sorted(set(groups)):
        count = groups.count(name) if name.casefold() in MISSING_GROUPS else 0
        if count > MAX_GROUP_SHARE * images:
            raise ManifestError(
                f"{where}: {count} of {images} images have the {column} '{name}', which seems to"
                " mean that it is unknown; leave these cells empty"
            )


def _check_images(
    tree: FolderTree,
    file: str,
    records: Sequence[ImageRecord],
    table: pd.DataFrame,
    columns: Mapping[str, Any],
) -> None:
    if not records:
        first = list(table[columns["image"]].head(2))
        raise ManifestError(
            f"{tree.path(file)} names no image that exists, such as {list_files(first)}, and"
            f" {tree.root} holds {list_files(tree.images) or 'no images'}; correct the column"
            f" {columns['image']}, or name another one with datamodule.columns.image"
        )
    twice = first_repeated(records)
    if twice is not None and "mask" not in columns:
        raise ManifestError(f"{tree.path(file)} names {twice} in several rows; keep one")


def _add_mask(
    tree: FolderTree,
    file: str,
    record: ImageRecord,
    text: str,
    name: str,
    where: str,
    options: LayoutOptions,
) -> None:
    """Add what a cell of masks holds: nothing, a path, a compressed RLE or pairs of numbers.

    Raises:
        ManifestError: It is none of these.
    """
    if text.casefold() in EMPTY:
        return
    if text.startswith("{"):
        try:
            record.outlines.append(Outline(name, where, validate_rle(parse_json(text, where))))
        except ValueError as error:
            raise ContentError(f"{where} has an RLE that cannot be used: {error}") from error
        return
    if re.fullmatch(r"[\d\s]+", text):
        rle = _decode_pairs(tree, record, text, where, options.rle_size)
        record.outlines.append(Outline(name, where, rle))
        return
    mask = tree.locate(text, folder_of(file))
    if mask is None:
        raise ManifestError(
            f"{where} names the mask '{text[:60]}', which does not exist below {tree.root}; correct"
            " the path, or leave the cell empty for an image without a lesion"
        )
    if mask not in record.masks:
        record.masks.append(mask)


def _decode_pairs(
    tree: FolderTree, record: ImageRecord, text: str, where: str, rle_size: int | str | None
) -> Rle:
    """Decode `start length` pairs, column by column from 1, as Kaggle writes them.

    Raises:
        ContentError: The user did not say for which size they are made, or they do not fit it.
    """
    height, width = tree.image_size(record.image)
    if rle_size is None or (rle_size != "image" and height != width):
        raise ContentError(
            f"{where} has run lengths, which do not say the size of the image that they were made"
            f" for (this image is {height} x {width}); set datamodule.rle_size=image if they were"
            " made for these images, or the side of the square images that they were made for"
        )
    made_for = (height, width) if rle_size == "image" else (int(rle_size), int(rle_size))
    try:
        numbers = np.array(text.split(), np.int64)
    except (ValueError, OverflowError) as error:
        raise ContentError(
            f"{where} has a run length that is no whole number of pixels; correct it"
        ) from error
    if len(numbers) % 2 or numbers[0] < 1:
        raise ContentError(
            f"{where} has run lengths that are no pairs 'start length' from 1 on; write the path of"
            " a mask image, or for SIIM-ACR's relative pairs set datamodule=pneumothorax"
        )
    starts = numbers.copy()
    starts[::2] -= 1
    try:
        rle = decode_siim([" ".join(map(str, starts))], *made_for, relative=False)
    except ValueError as error:
        raise ContentError(
            f"{where} has run lengths that do not fit {made_for[0]} x {made_for[1]} pixels"
            f" ({error}); correct datamodule.rle_size"
        ) from error
    return scale_rle(rle, height, width)  # type: ignore[return-value]
