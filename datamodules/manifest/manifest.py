"""Manifest of a data set: one row per image, with its split, group, labels and masks."""

import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    TypeAdapter,
    with_config,
)
from typing_extensions import TypedDict

from datamodules.errors import MAX_FILE_BYTES, ContentError, ManifestError
from datamodules.formats.file_content import (
    parse_json,
    plain_sentence,
    read_json,
    read_text,
    shorten,
)
from datamodules.formats.gray_levels import SourceImage, stack_channels
from datamodules.formats.image_cache import ImageCache
from datamodules.formats.image_files import is_volume
from datamodules.formats.image_io import DEFAULT_READER, ImageReader, Size, read_pixel_spacing
from datamodules.formats.mask_images import (
    MaskImage,
    MaskReading,
    interpret_masks,
    read_mask,
    read_mask_size,
    survey_masks,
)
from datamodules.formats.meta_json import is_meta_json, read_meta_rows
from datamodules.formats.outlines import image_side
from datamodules.formats.rle import Rle, decode_rle, encode_rle, validate_rle
from datamodules.formats.schema import parse_by_schema
from datamodules.formats.tables import (
    FALSE,
    TRUE,
    check_groups,
    check_header,
    find_separator,
)
from datamodules.formats.volumes import SliceIndex, read_grid

MANIFEST_VERSION = 1
SPLITS = ("train", "val", "test")
NUMBER = re.compile(r"[0-9]*\.?[0-9]+(e-?[0-9]+)?")
REQUIRED_COLUMNS = ("id", "image")
FILE_COLUMNS = {
    *("image", "mask", "cropped_mask", "true_mask", "channel_files")
}  # columns of paths, or of lists of paths
MAY_BE_LISTS = {"mask", "channel_files"}
LIST_COLUMNS = {
    "mask",
    "channel_files",
    "label",
    "crop",
    "boxes",
    "physiological",
    "spacing_mm",
}  # columns that may hold lists, which are JSON in a CSV


class RowMask(NamedTuple):
    """Mask of one row.

    Attributes:
        rles: One compressed RLE or None per class, at the image's own size.
        soft: True if it was an image with soft edges, which were cut at > 127.
        ignored: Compressed RLE of the pixels that neither train nor score; None without any.
    """

    rles: list[Rle | None]
    soft: bool = False
    ignored: Rle | None = None


@dataclass(frozen=True)
class Manifest:
    """Table of a data set's images, with the names of the classes.

    Attributes:
        rows: One row per image with the columns `id` and `image` (a path), and if known `group`
            (the patient), `mask` (a path, a list of paths that are joined, or a list of one
            compressed RLE or None per class at the image's own size), `label` (int or multi-hot
            list), `split`, `stratum`, `cls_prob`,
            `spacing_mm` (the pixel spacing in mm: one number, or [row, column]), `crop` ([top,
            left, side] in pixels: the square of the image that is used in its place), `slice` and
            `axis` (number of the slice, from 0, if `image` and `mask` are volumes, and the axis
            that it is perpendicular to), `channel_files` (list of the files of the second and
            further channels, if each channel is a file); further columns are kept.
        classes: Names of the mask's or label's classes, in channel order; empty until the values of
            the mask images are known, see `with_mask_reading`.
        group_is: Meaning of `group`: "patient", or "image" where patients are unknown.
        phantom: True for synthetic images.
        mask_values: Class, or list of classes, of each value of the mask images as a user writes
            it; None if the values decide.
        mask_reading: Meaning of the values of the mask images; None before they are surveyed.
        swap_masks: True to swap foreground and background of every mask; a row without a mask stays
            without a lesion.
        exclusive: True if each pixel belongs to at most one class, as in a label map.
        source: The file that the rows were read from, for error messages; None if there is no
            single file.
        reader: Reader of the image files.
    """

    rows: pd.DataFrame
    classes: tuple[str, ...] = ("lesion",)
    group_is: str = "image"
    phantom: bool = False
    mask_values: Mapping[Any, Any] | None = None
    mask_reading: MaskReading | None = None
    swap_masks: bool = False
    exclusive: bool = False
    source: Path | None = None
    reader: ImageReader = DEFAULT_READER

    def __post_init__(self) -> None:
        _check_table(self.rows, "the manifest" if self.source is None else str(self.source))
        groups = self.rows["group"] if "group" in self.rows else self.rows["id"]
        self.rows["group"] = groups.where(groups.notna(), self.rows["id"]).astype(
            str
        )  # an image of an unknown patient is a group of its own

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, split: str) -> np.ndarray:
        """Return the row numbers of one split."""
        return np.flatnonzero(self.rows["split"].to_numpy() == split)

    def mask(self, row: int) -> RowMask:
        """Read and check the mask of one row from a file or from RLEs.

        Raises:
            ContentError: A mask image or an RLE cannot be used, or the cell is neither; the message
                names the file, or the row and class.
            ManifestError: A mask image is missing or cannot be decoded.
        """
        mask: Any = self.rows["mask"].iat[row] if "mask" in self.rows else None
        if mask is None or (isinstance(mask, float) and np.isnan(mask)):
            return RowMask([None] * len(self.classes))
        if isinstance(mask, str | Path) or _are_paths(mask):
            files = [mask] if isinstance(mask, str | Path) else mask
            image = self._read_files(files, self.slice_index(row))
            ignored = None if image.ignored is None else image.ignored[..., None].view(np.uint8)
            return RowMask(
                encode_rle(image.mask),
                image.soft,
                None if ignored is None else encode_rle(ignored)[0],
            )
        if not isinstance(mask, list | tuple) or len(mask) != len(self.classes):
            actual = f"a list of {len(mask)}" if isinstance(mask, list | tuple) else repr(mask)[:40]
            expected = f"one compressed RLE or null for each class ({', '.join(self.classes)})"
            raise ContentError(
                f"{self._describe_cell(row)} is {actual}; write the path of an image, or a list"
                f" with {expected}"
            )
        rles = [
            self._check_rle(row, name, rle) for name, rle in zip(self.classes, mask, strict=True)
        ]
        return RowMask(
            [rle and encode_rle(1 - decode_rle([rle], *rle["size"]))[0] for rle in rles]
            if self.swap_masks
            else rles
        )

    def slice_index(self, row: int) -> SliceIndex | None:
        """Return the position of a row in its volume; None for a row that is a whole file.

        Without a column `axis` it is that of the largest spacing, see `VolumeGrid.thick_axis`.

        Raises:
            ManifestError: The cells are no slice and axis.
        """
        rows: Any = self.rows
        if "slice" not in rows or pd.isna(rows["slice"].iat[row]):
            return None
        number = rows["slice"].iat[row]
        axis = rows["axis"].iat[row] if "axis" in rows else None
        if pd.isna(axis):
            axis = read_grid(Path(rows["image"].iat[row])).thick_axis
        if not _is_whole(number) or int(number) < 0 or axis not in (0, 1, 2):
            raise ManifestError(
                f"{_file_of(self)}the slice of '{rows['id'].iat[row]}' is {number} of axis {axis};"
                " write whole numbers from 0, and an axis 0, 1 or 2"
            )
        return SliceIndex(int(axis), int(number))

    def _stated_size(self, row: int) -> Size:
        """Return the columns `height` and `width`.

        Raises:
            ManifestError: They are no whole numbers of pixels.
        """
        where = f"{_file_of(self)}'{self.rows['id'].iat[row]}'"
        height, width = (
            image_side(
                np.asarray(self.rows[side].iat[row]).item() if side in self.rows else None,
                side,
                where,
                self.reader.max_pixels,
            )
            for side in ("height", "width")
        )
        return height, width

    def annotated_size(self, row: int) -> Size | None:
        """Return the height and width that the annotation of a row gives its image; None if none.

        They are the columns `height` and `width`, or the size of the RLE or of the mask file. The
        mask of a crop does not tell them, but the column `whole_mask` does.
        """
        rows: Any = self.rows
        if "height" in rows and not pd.isna(rows["height"].iat[row]):
            return self._stated_size(row)
        column = "mask" if get_crop(self, row) is None else "whole_mask"
        mask = rows[column].iat[row] if column in rows else None
        mask = mask[0] if isinstance(mask, list | tuple) and _are_paths(mask) else mask
        if isinstance(mask, str | Path):
            return read_mask_size(Path(mask), self.reader, self.slice_index(row))
        for rle in mask if isinstance(mask, list | tuple) else ():
            if isinstance(rle, dict) and rle.get("size"):
                return int(rle["size"][0]), int(rle["size"][1])
        return None

    def read_image(self, row: int, channels: int, data: bytes | None = None) -> SourceImage:
        """Decode the image of a row in the orientation of its annotation; see `ImageReader.read`.

        Args:
            row: Number of the row.
            channels: 1 for gray, 3 for RGB; the number of its files or frames if each channel is
                one.
            data: The file's bytes if they were read already.

        Raises:
            ManifestError: See `ImageReader.read`; or the channels are not as many, or differ in
                size.
        """
        path = Path(str(self.rows["image"].iat[row]))
        index, others = self.slice_index(row), self.channel_files(row)

        def read(file: Path, count: int, content: bytes | None) -> SourceImage:
            """Decode one of the files."""
            size = lambda: self.annotated_size(row)  # noqa: E731
            return self.reader.read(file, count, content, size, index)

        if not others:
            return read(path, channels, data)
        check_channel_count(path, 1 + len(others), channels)
        images = [read(path, 1, data), *(read(other, 1, None) for other in others)]
        for other, image in zip(others, images[1:], strict=True):
            if image.pixels.shape != images[0].pixels.shape:
                sizes = [f"{i.pixels.shape[0]} x {i.pixels.shape[1]}" for i in (image, images[0])]
                raise ManifestError(
                    f"{other} is {sizes[0]} pixels and {path}, another channel of the same image,"
                    f" {sizes[1]}; export them together"
                )
        return stack_channels(images)

    def channel_files(self, row: int) -> list[Path]:
        """Return the files of a row's second and further channels; none if it has one file."""
        files: Any = self.rows["channel_files"].iat[row] if "channel_files" in self.rows else None
        return [Path(file) for file in files] if isinstance(files, list | tuple) else []

    @property
    def has_own_channels(self) -> bool:
        """True if the channels are images of their own, and not the colors of one image."""
        return "channel_files" in self.rows or self.reader.frame == "channels"

    def read_image_size(self, row: int) -> Size:
        """Return height and width of a row's image; see `ImageReader.read_size`."""
        path = Path(str(self.rows["image"].iat[row]))
        return self.reader.read_size(path, self.annotated_size(row), self.slice_index(row))

    def source_files(self) -> Iterator[str]:
        """Yield the path of every file that pixels are read from; paths may repeat."""
        for name in ("image", "channel_files", "mask", "true_mask"):
            for cell in self.rows[name] if name in self.rows else ():
                if isinstance(cell, str | Path):
                    yield str(cell)
                elif name == "channel_files" or _are_paths(cell):
                    yield from map(str, cell or ())

    def rles(self, row: int) -> list[Rle | None]:
        """Return one compressed RLE or None per class of one row; see `mask`."""
        return self.mask(row).rles

    def read_mask(self, path: str | Path, index: SliceIndex | None = None) -> MaskImage:
        """Read a mask image of this data set; foreground and background are swapped if set.

        Without `mask_reading`, the file alone decides, for one class.

        Raises:
            ContentError: The values cannot be used.
            ManifestError: The file is missing or cannot be decoded.
        """
        image = read_mask(Path(path), self.mask_reading, self.reader, index)
        return image._replace(mask=1 - image.mask) if self.swap_masks else image

    def read_true_mask(self, path: str | Path) -> MaskImage:
        """Read a mask of one class whose values are its own, not those of the column `mask`."""
        return replace(self, mask_reading=None).read_mask(path)

    def _read_files(
        self, paths: Sequence[str | Path], index: SliceIndex | None = None
    ) -> MaskImage:
        """Read the mask images of one row and join them; a pixel is ignored if any file says so.

        Raises:
            ContentError: The files differ in size; or as `read_mask`.
        """
        images = [self.read_mask(path, index) for path in paths]
        first = images[0]
        for path, image in zip(paths, images, strict=True):
            if image.mask.shape != first.mask.shape:
                sizes = [f"{i.mask.shape[0]} x {i.mask.shape[1]}" for i in (first, image)]
                raise ContentError(
                    f"{path} is {sizes[1]} pixels and {paths[0]}, a mask of the same image,"
                    f" {sizes[0]}; export them together"
                )
        ignored = [image.ignored for image in images if image.ignored is not None]
        return MaskImage(
            np.bitwise_or.reduce([image.mask for image in images]),
            any(image.soft for image in images),
            np.logical_or.reduce(ignored) if ignored else None,
        )

    def _check_rle(self, row: int, name: str, rle: Any) -> Rle | None:
        if rle is None or rle == "" or (isinstance(rle, float) and np.isnan(rle)):
            return None
        try:
            return validate_rle(rle, max_pixels=self.reader.max_pixels)
        except ValueError as error:
            raise ContentError(
                f"{self._describe_cell(row)}, class {name}, cannot be used: {error}; write the mask"
                " again, or leave it empty"
            ) from error

    def _describe_cell(self, row: int) -> str:
        """Return the beginning of a message that names the mask of a row."""
        return f"{_file_of(self)}the mask of '{self.rows['id'].iat[row]}'"

    def write(self, path: Path) -> Path:
        """Write `.csv` (first line: version and classes) or `.json`, which `read` reads back."""
        head = {
            "version": MANIFEST_VERSION,
            "classes": list(self.classes),
            "group_is": self.group_is,
        } | ({"phantom": True} if self.phantom else {})
        head |= {"mask_values": dict(self.mask_values)} if self.mask_values else {}
        head |= {"exclusive": True} if self.exclusive else {}
        if path.suffix == ".json":
            path.write_text(
                json.dumps(
                    head | {"rows": self.rows.to_dict("records")}, default=str, allow_nan=True
                )
            )
            return path
        table = self.rows.copy()
        for name in LIST_COLUMNS & set(table.columns):
            table[name] = table[name].map(
                lambda value: (
                    value if isinstance(value, str) or value is None else json.dumps(value)
                )
            )
        with path.open("w", encoding="utf-8", newline="") as file:
            file.write("# " + json.dumps(head) + "\n")
            table.to_csv(file, index=False)
        return path


Name = Annotated[str, Field(strict=True, min_length=1, max_length=4096, pattern=r"^[^\x00]+$")]
Number = StrictInt | StrictFloat
Scalar = StrictBool | StrictInt | StrictFloat | StrictStr | None
Missing = Annotated[float, AfterValidator(lambda number: _check_missing(number))] | None


def _unique(classes: list[str]) -> list[str]:
    """Return the names of the classes, none of them twice."""
    if len(set(classes)) < len(classes):
        raise ValueError("should name each class once")
    return classes


def _check_missing(number: float) -> float:
    """Return NaN, by which pandas marks an empty cell."""
    if number == number:
        raise ValueError("should be the path of a file")
    return number


@with_config(ConfigDict(extra="allow"))
class ManifestRow(TypedDict, total=False):
    """A row of a manifest in JSON; further columns are kept."""

    id: Scalar
    image: Name | Missing
    group: Scalar
    split: Scalar
    label: Scalar | list[Scalar]
    stratum: Scalar
    cls_prob: Number | None
    slice: Number | None
    axis: Number | None
    height: Number | None
    width: Number | None
    mask: Any  # read by `Manifest.mask`, whose messages name the row and the class
    cropped_mask: Name | Literal[""] | Missing
    channel_files: list[Name] | Missing


class ManifestHead(TypedDict, total=False):
    """Head of a manifest: the first line of a CSV, or the keys of a JSON beside its rows."""

    version: Annotated[int, Field(strict=True, ge=1)]
    classes: Annotated[list[Name], Field(min_length=1), AfterValidator(lambda c: _unique(c))]
    group_is: Annotated[str, Field(strict=True)]
    phantom: StrictBool
    mask_values: dict[str, str | list[str]] | None
    exclusive: StrictBool
    rows: Annotated[list[ManifestRow], Field(min_length=1)]


HEAD: TypeAdapter[Any] = TypeAdapter(ManifestHead)


def read_manifest(path: Path, max_bytes: int = MAX_FILE_BYTES) -> Manifest:
    """Read a manifest that `Manifest.write` wrote, a plain CSV, or a pneumothorax meta JSON.

    A plain CSV has at least the columns id and image. Relative paths are relative to the manifest's
    folder.

    Args:
        path: The file.
        max_bytes: Largest file that is read, in bytes.

    Raises:
        ManifestError: The file is missing, malformed, of a later version, or lacks a required
            column.
    """
    if not path.exists():
        raise ManifestError(
            f"{path} is not a file; name a manifest (.csv or .json) with at least the columns id"
            " and image"
        )
    try:
        head, rows = (
            _read_manifest_json(path, max_bytes)
            if path.suffix == ".json"
            else _read_manifest_csv(path, max_bytes)
        )
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        reason = plain_sentence(error)
        raise ManifestError(
            f"{path} cannot be read as a manifest ({reason}); write it as CSV with the columns"
            " id,image,mask,split"
        ) from error
    if head.get("version", MANIFEST_VERSION) > MANIFEST_VERSION:
        raise ManifestError(
            f"{path} is a manifest of version {head['version']}, newer than {MANIFEST_VERSION};"
            " update this repository"
        )
    for name in FILE_COLUMNS & set(rows.columns):
        rows[name] = pd.Series(
            [_resolve_path(value, path.parent) for value in rows[name]], dtype=object
        )
    head = {
        "classes": ["lesion"],
        "group_is": "patient" if "group" in rows else "image",
        "phantom": False,
    } | head
    return Manifest(
        rows,
        tuple(head["classes"]),
        head["group_is"],
        head["phantom"],
        head.get("mask_values"),
        exclusive=head.get("exclusive", False),
        source=path,
    )


def check_channel_count(path: Path, found: int, channels: int) -> None:
    """Refuse an image of several files if as many channels are not asked for."""
    if found != channels:
        raise ManifestError(
            f"{path} has {found} channels, one per file, and datamodule.channels={channels}; set"
            f" datamodule.channels={found}"
        )


def with_mask_reading(
    manifest: Manifest,
    mask_values: Mapping[Any, Any] | None,
    ignore_value: Any,
    cache_dir: Path,
) -> Manifest:
    """Return the manifest with the meaning of the values of its mask images.

    All mask images are read once for this; what they hold is kept in `cache_dir`. Files that cannot
    be read are left to the checks that read them again.

    Raises:
        ContentError: The values are not certain; the message lists them and names the key.
    """
    files = list(dict.fromkeys(_mask_files(manifest.rows)))
    if not files:
        return replace(manifest, classes=manifest.classes or ("lesion",))
    reading = interpret_masks(
        survey_masks(files, cache_dir, manifest.reader),
        manifest.classes,
        mask_values or manifest.mask_values,
        ignore_value,
    )
    return replace(
        manifest,
        classes=reading.classes,
        mask_reading=reading,
        exclusive=manifest.exclusive or reading.exclusive,
    )


def _mask_files(rows: pd.DataFrame) -> list[Path]:
    """Return the mask images of the columns `mask` and `cropped_mask`."""
    files = []
    for name in ("mask", "cropped_mask"):
        for cell in rows[name] if name in rows else ():
            cells = cell if _are_paths(cell) else [cell]
            files += [Path(each) for each in cells if isinstance(each, str | Path) and each]
    return files


def _are_paths(cell: Any) -> bool:
    """Return True if a cell lists mask images of one row, which unlike RLEs have suffixes."""
    return (
        isinstance(cell, list | tuple)
        and bool(cell)
        and all(isinstance(each, str) and Path(each).suffix for each in cell)
    )


def _check_table(rows: pd.DataFrame, where: str) -> None:
    for name in REQUIRED_COLUMNS:
        if name not in rows:
            raise ManifestError(
                f"{where} has no column '{name}' (it has"
                f" {shorten(', '.join(map(str, rows.columns)))}); add it"
            )
        if rows[name].isna().any():
            raise ManifestError(
                f"row {int(rows[name].isna().to_numpy().argmax())} of {where} has no {name}; fill"
                " it in or remove the row"
            )
    for name in sorted((FILE_COLUMNS - MAY_BE_LISTS) & set(rows.columns)):
        odd = [
            not (
                value is None
                or isinstance(value, str | Path)
                or (isinstance(value, float) and np.isnan(value))
            )
            for value in rows[name]
        ]
        if any(odd):
            row = odd.index(True)
            raise ManifestError(
                f"the {name} of '{rows['id'].iat[row]}' is {str(rows[name].iat[row])[:40]}; write"
                " the path of a file"
            )
    _check_unique_ids(rows, where)
    if "split" in rows:
        unknown = sorted({str(split) for split in rows["split"] if split not in SPLITS})
        if unknown:
            raise ManifestError(
                f"split '{shorten(unknown[0], 60)}' is none of {', '.join(SPLITS)}; rename it in"
                f" {where}"
            )


def _check_unique_ids(rows: pd.DataFrame, where: str) -> None:
    for id in rows["id"]:
        if not isinstance(id, str | int | float):
            raise ManifestError(
                f"the id {shorten(repr(id), 60)} of {where} is neither a text nor a number;"
                " correct it"
            )
    twice = rows["id"][rows["id"].duplicated()]
    if len(twice):
        raise ManifestError(
            f"id '{twice.iloc[0]}' occurs {int((rows['id'] == twice.iloc[0]).sum())} times in"
            f" {where}; ids must be unique"
        )


MANIFEST_FIX = "write it as CSV with the columns id,image,mask,split"


def _read_manifest_json(path: Path, max_bytes: int) -> tuple[dict[str, Any], pd.DataFrame]:
    content = read_json(path, max_bytes, MANIFEST_FIX)
    if is_meta_json(content):
        return {"classes": ["pneumothorax"]}, read_meta_rows(content, path)
    head = dict(parse_by_schema(HEAD, content, str(path), MANIFEST_FIX))
    if "rows" not in head:
        raise ManifestError(f"{path} has no rows; {MANIFEST_FIX}")
    return head, pd.DataFrame(head.pop("rows"))


def _read_manifest_csv(path: Path, max_bytes: int) -> tuple[dict[str, Any], pd.DataFrame]:
    text = read_text(path, max_bytes, MANIFEST_FIX)
    if "\0" in text:
        raise ManifestError(f"{path} holds NUL bytes, so it is no CSV; {MANIFEST_FIX}")
    first, _, rest = text.partition("\n")
    commented = first.startswith("#")
    if commented:
        text = rest
    check_header(text, path)
    how: dict[str, Any] = {"sep": find_separator(text)}
    data = text.encode()  # StringIO takes four bytes a letter
    types = {"image": str, "mask": object, "split": str}
    table = pd.read_csv(io.BytesIO(data), dtype=types, **how)
    texts = pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False, **how)
    for name in {"id", "group"} & set(table.columns):  # a patient may be called NA
        table[name] = texts[name].str.strip().replace("", None)
    if "group" in table:
        check_groups(table["group"].dropna().tolist(), len(table), "group", path)
    for name in LIST_COLUMNS & set(table.columns):
        table[name] = pd.Series([_parse_cell(value, path) for value in table[name]], dtype=object)
    if not commented:
        return {}, table
    head = parse_json(first[1:], f"the first line of {path}", fix="correct it")
    return dict(parse_by_schema(HEAD, head, f"the first line of {path}", "correct it")), table


def _parse_cell(value: Any, path: Path) -> Any:
    if isinstance(value, float) and np.isnan(value):
        return None
    if not isinstance(value, str) or value[:1] not in ("[", "{"):
        return value
    return parse_json(value, f"{path}: the cell '{shorten(value, 40)}'", fix="correct it")


def _resolve_path(value: Any, folder: Path) -> Any:
    if value == "" or (
        isinstance(value, float) and np.isnan(value)
    ):  # NaN is how pandas marks an empty cell
        return None
    if _are_paths(value):
        return [str(folder / each) for each in value]  # several masks of one image
    return str(folder / value) if isinstance(value, str) else value


def get_crop(manifest: Manifest, row: int) -> list[int] | None:
    """Return a row's crop [top, left, side] in pixels of the image, or None for the whole image."""
    crop = manifest.rows["crop"].iat[row] if "crop" in manifest.rows else None
    return list(crop) if isinstance(crop, list | tuple) else None


def spacing_matrix(manifest: Manifest, rows: np.ndarray) -> np.ndarray | None:
    """Return the pixel spacing of some images in mm, `rows x 2` (row, column).

    It is the column `spacing_mm`, and without that column the header of a DICOM or volume.

    Returns:
        None if the spacing of any of the images is not known.

    Raises:
        ManifestError: A spacing is not one positive number or two.
    """
    found = np.zeros((len(rows), 2))
    for n, row in enumerate(rows.tolist()):
        spacing = row_spacing(manifest, row)
        if spacing is None:
            return None
        found[n] = spacing
    return found


def row_spacing(manifest: Manifest, row: int) -> tuple[float, float] | None:
    """Return the pixel spacing of one image in mm (row, column); see `spacing_matrix`."""
    if "spacing_mm" not in manifest.rows:
        path = Path(str(manifest.rows["image"].iat[row]))
        if is_volume(path):
            grid, index = read_grid(path), manifest.slice_index(row)
            return grid.slice_spacing(grid.thick_axis if index is None else index.axis)
        return read_pixel_spacing(path)
    value: Any = manifest.rows["spacing_mm"].iat[row]
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    numbers = value if isinstance(value, list | tuple) else [value, value]
    if isinstance(value, str) and NUMBER.fullmatch(value):  # of a column that also holds pairs
        numbers = [float(value)] * 2
    if len(numbers) != 2 or not all(_is_length(number) for number in numbers):
        raise ManifestError(
            f"the spacing_mm of '{manifest.rows['id'].iat[row]}' is {value!r}; write one positive"
            " number, or [row, column], in mm"
        )
    return float(numbers[0]), float(numbers[1])


def _is_whole(value: Any) -> bool:
    """Return True for a whole number, also one that pandas keeps as a float."""
    return isinstance(value, int | float | np.number) and float(value).is_integer()


def _is_length(value: Any) -> bool:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return number and bool(np.isfinite(value)) and value > 0


def label_matrix(manifest: Manifest) -> np.ndarray | None:
    """Return the labels as float32 0/1 `N x classes`, or None without a column `label`.

    A list is multi-hot. An int is 0 or 1 if there is one class, otherwise the index of the image's
    class. A text is the name of a class, or for one class also yes or no.

    Raises:
        ManifestError: A label is missing, of another type than the first, or not a class.
    """
    if "label" not in manifest.rows:
        return None
    labels, ids = manifest.rows["label"].tolist(), manifest.rows["id"].tolist()
    several = [isinstance(label, list | tuple) for label in labels]
    if any(several) and not all(several):
        odd = ids[several.index(not several[0])]
        raise ManifestError(
            f"{_file_of(manifest)}the label of '{odd}' is of another type than the first; write all"
            " as ints, or all as lists"
        )
    where = f"{_file_of(manifest)}the label of"
    return np.stack(
        [
            _label_row(label, f"{where} '{id}'", manifest.classes)
            for label, id in zip(labels, ids, strict=True)
        ]
    )


def is_multiclass(manifest: Manifest) -> bool:
    """Return True if each image has exactly one of several classes, that is, if labels are ints."""
    return (
        "label" in manifest.rows
        and len(manifest.classes) > 1
        and not isinstance(manifest.rows["label"].iat[0], list | tuple)
    )


def present_classes(manifest: Manifest, cache: ImageCache) -> np.ndarray:
    """Return the classes that are present in each row, bool `N x classes`, by mask or label."""
    if cache.has_masks:
        return np.asarray(cache.areas) > 0
    labels = label_matrix(manifest)
    return np.zeros((len(manifest), len(manifest.classes)), bool) if labels is None else labels > 0


def _file_of(manifest: Manifest) -> str:
    """Return the beginning of a message about a row: the file, if the manifest is of one."""
    return f"{manifest.source}: " if manifest.source else ""


def _label_row(label: Any, where: str, classes: Sequence[str]) -> np.ndarray:
    count = len(classes)
    target = np.zeros(count, np.float32)
    if isinstance(label, list | tuple):
        if len(label) != count or not all(value in (0, 1) for value in label):
            raise ManifestError(
                f"{where} is {label}; give one 0 or 1 for each of the {count} classes"
                " (datamodule.classes names them)"
            )
        target[:] = label
        return target
    number = _label_number(label, classes)
    if number is None:
        blank = label is None or label == "" or (isinstance(label, float) and np.isnan(label))
        given = "empty" if blank else shorten(repr(label), 60)
        raise ManifestError(
            f"{where} is {given}; give a whole number from 0 to {max(2, count) - 1}, or"
            f" the name of a class ({', '.join(classes)}; datamodule.classes names more)"
        )
    if count > 1:
        target[number] = 1
    else:
        target[0] = number
    return target


def _label_number(label: Any, classes: Sequence[str]) -> int | None:
    """Return the index of a class, or 0 or 1 for one class; None if a label is neither."""
    text = str(label).strip()
    if text in classes:
        return 1 if len(classes) == 1 else classes.index(text)
    if len(classes) == 1 and text.lower() in TRUE | FALSE:
        return int(text.lower() in TRUE)
    try:
        number = float(label)
    except (TypeError, ValueError, OverflowError):
        return None
    known = number.is_integer() and 0 <= number < max(2, len(classes))
    return int(number) if known else None
