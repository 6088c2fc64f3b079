"""Base of the layouts: how a folder holds images with masks, outlines or labels.

A layout looks at the files of a folder (`FolderTree`), says whether it recognizes them and why, and
reads them into one `ImageRecord` per image. `datamodules/formats/registry.py` lists all layouts.
"""

import re
import unicodedata
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from datamodules.errors import MAX_FILE_BYTES, ManifestError
from datamodules.formats.file_content import check_file, read_json, read_text
from datamodules.formats.image_files import (
    file_suffix,
    is_image_file,
    is_volume,
    special_files,
    walk_files,
)
from datamodules.formats.image_io import DEFAULT_READER, ImageReader, Size
from datamodules.formats.rle import Rle
from datamodules.formats.volumes import SliceIndex

Task = Literal["masks", "labels"]
SPLIT_WORDS = {
    "train": {"train", "training", "tr", "trn"},
    "val": {"val", "valid", "validation", "dev"},
    "test": {"test", "testing", "ts", "tst"},
}
IMAGE_WORDS = {
    *("image", "images", "img", "imgs", "scan", "scans", "photo", "photos", "picture", "pictures"),
    *("input", "inputs", "frame", "frames", "slice", "slices", "cxr"),
}
MASK_WORDS = {
    *("mask", "masks", "label", "labels", "annotation", "annotations", "gt", "groundtruth"),
    "ground",
    *("truth", "seg", "segs", "segmentation", "segmentations", "target", "targets"),
}
FORMAT_WORDS = {"png", "jpg", "jpeg", "jpegs", "tif", "tiff", "dicom", "dcm", "nii", "nifti"}
# folders that name a split have no other words: `train_images`, not `patient_train_7`
SPLIT_NAMES = (
    set().union(*SPLIT_WORDS.values()) | IMAGE_WORDS | MASK_WORDS | FORMAT_WORDS | {"instances"}
)
MAX_LISTED = 5  # file names that a message lists


@dataclass(frozen=True)
class Outline:
    """One annotated object of an image: a polygon, a box, or an RLE.

    Attributes:
        name: Name of its class.
        where: File and annotation, for messages.
        rle: Mask of the object at the image's own size, compressed RLE.
        box_only: True if the file has only its bounding box, which `rle` fills.
    """

    name: str
    where: str
    rle: Rle
    box_only: bool = False


@dataclass
class ImageRecord:
    """One image of a folder, with what is known about it.

    Attributes:
        image: Path relative to the root, in POSIX form.
        split: `train`, `val` or `test`; None if the folder does not say.
        group: Name shared by images of one patient or volume; None if unknown.
        outlines: Annotated objects.
        masks: Mask images, relative to the root; they are joined.
        channels: Further files of the same size that are the other channels of the image.
        label: Name of the image's class, or the list of its findings.
        size: Height and width in pixels as the annotation states them; None if it does not.
        slice: Position of the slice if the file is a volume, see `SliceIndex`.
        spacing: Distance of rows and of columns in mm, if the layout knows it.
        annotated: False if nothing says whether the image shows a class.
    """

    image: str
    split: str | None = None
    group: str | None = None
    outlines: list[Outline] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)
    label: str | list[str] | None = None
    size: tuple[int, int] | None = None
    slice: SliceIndex | None = None
    spacing: tuple[float, float] | None = None
    annotated: bool = True


@dataclass
class LayoutContent:
    """Content that a layout read from a folder.

    Attributes:
        records: One per image.
        classes: Names of the classes in order; empty if the values of mask images decide.
        mask_values: Class of each mask value, if a file of the data set says so.
        ignore_value: Value of unknown pixels, if the layout defines one.
        group_is: "patient" if groups are patients or volumes.
        counted: Pairs of a reason and a file, for the report: what was repaired or left out.
    """

    records: list[ImageRecord]
    classes: Sequence[str] = ()
    mask_values: Mapping[Any, Any] | None = None
    ignore_value: Any = None
    group_is: str = "image"
    counted: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class LayoutOptions:
    """Options that the user sets for a folder; see the arguments of `OwnDataModule`."""

    normalized: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)
    table: str | None = None
    rle_size: int | Literal["image"] | None = None


class Layout(ABC):
    """A way to lay out images and their annotations in a folder.

    Attributes:
        name: Value of `datamodule.layout`.
        task: What it gives: `masks` or `labels`.
        looks_for: What the folder must hold, for the message if no layout matches.
        specializes: Names of more general layouts that match too, and are then not meant.
    """

    name: ClassVar[str]
    task: ClassVar[Task]
    looks_for: ClassVar[str]
    specializes: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def match(self, tree: "FolderTree", options: LayoutOptions) -> str | None:
        """Return what was recognized, such as `images/ and masks/ hold 12 pairs`; None if not."""

    @abstractmethod
    def read(self, tree: "FolderTree", options: LayoutOptions) -> LayoutContent:
        """Read the folder.

        Raises:
            ManifestError: A file cannot be used; the message names it.
        """


class FolderTree:
    """All files below a folder, in order, without the junk of operating systems.

    Args:
        root: The folder; nothing is written there.
        reader: Reader of its image files.
    """

    def __init__(self, root: Path, reader: ImageReader = DEFAULT_READER) -> None:
        self.root, self.reader = root, reader
        self.files = sorted(path.relative_to(root).as_posix() for path in walk_files(root))
        self.unreadable: list[str] = []  # sentences about files that no layout can read
        self._by_key: dict[str, list[str]] = defaultdict(list)
        for file in self.files:
            self._by_key[_key(PurePosixPath(file).name)].append(file)

    @cached_property
    def images(self) -> list[str]:
        """Image files, known by their suffix, or DICOMs by their content."""
        return [file for file in self.files if is_image_file(self.root / file)]

    @cached_property
    def _image_set(self) -> set[str]:
        return set(self.images)

    def is_image(self, file: str) -> bool:
        """Return True if a file of this tree is an image."""
        return file in self._image_set

    @cached_property
    def json_kinds(self) -> dict[str, str]:
        """Return the kind of each JSON file: `coco`, `labelme` or `label_studio`.

        Other files are left out. Each file is parsed once for all layouts; `unreadable` says which
        of them cannot be.
        """
        found = {}
        for file in self.with_suffix(".json"):
            try:
                kind = _json_kind(self.read_json(file))
            except ManifestError as error:
                self.unreadable.append(str(error))
                continue
            if kind is not None:
                found[file] = kind
        return found

    def read_text(self, file: str) -> str:
        """Read a text file of this tree; see `file_content.read_text`."""
        return read_text(self.path(file), self.reader.max_file_bytes)

    def read_json(self, file: str) -> Any:
        """Read a JSON file of this tree; see `file_content.read_json`."""
        return read_json(self.path(file), self.reader.max_file_bytes)

    def read_xml(self, file: str) -> Element | None:
        """Read an XML file of this tree; see `read_xml`."""
        return read_xml(self.path(file), max_bytes=self.reader.max_file_bytes)

    @cached_property
    def special(self) -> list[str]:
        """Pipes, sockets, devices and broken links, relative to the root; they are never opened."""
        return [path.relative_to(self.root).as_posix() for path in special_files(self.root)]

    def json_files(self, kind: str) -> list[str]:
        """Return the JSON files of one kind."""
        return [file for file, found in self.json_kinds.items() if found == kind]

    def is_volume(self, file: str) -> bool:
        """Return True if a file of this tree is a volume, whose slices are images."""
        return is_volume(self.root / file)

    def is_picture(self, file: str) -> bool:
        """Return True if a file of this tree is an image or a volume."""
        return self.is_image(file) or self.is_volume(file)

    def with_suffix(self, *suffixes: str) -> list[str]:
        """Return the files with one of some suffixes, such as `.json`."""
        return [file for file in self.files if suffix(file) in suffixes]

    def image_size(self, file: str) -> Size:
        """Return height and width of an image in pixels, as viewers show it."""
        return self.reader.read_size(self.root / file)

    def path(self, file: str) -> Path:
        """Return the path of a file of this tree."""
        return self.root / file

    def locate(self, name: str, base: str = "", accept: Callable[[str], bool] = bool) -> str | None:
        """Find the file that an annotation names.

        Slashes of any kind, `..`, absolute paths of another machine and Unicode forms do not
        matter: the file below the root is taken whose path ends like the name, if there is one.

        Args:
            name: Path or name as the annotation writes it.
            base: Folder of the annotation, relative to the root.
            accept: Which files count.

        Returns:
            None if no file has this name.

        Raises:
            ManifestError: Several files end like the name equally well.
        """
        parts = [part for part in re.split(r"[\\/]+", name) if part not in ("", ".", "..")]
        if not parts:
            return None
        found = [file for file in self._by_key.get(_key(parts[-1]), ()) if accept(file)]
        exact = _key("/".join([*PurePosixPath(base).parts, *parts]))
        for file in found:
            if _key(file) == exact:
                return file
        if len(found) > 1:
            depth = [_shared_end(PurePosixPath(file).parts, parts) for file in found]
            found = [file for file, n in zip(found, depth, strict=True) if n == max(depth)]
            inside = [file for file in found if base and file.startswith(f"{base}/")]
            found = inside or found
        if len(found) > 1:
            raise ManifestError(
                f"{self.root}: '{name}' may be {' or '.join(found[:3])}; write its folder too"
            )
        return found[0] if found else None

    def locate_image_stem(self, name: str, base: str = "") -> str | None:
        """Find the image of a name without suffix, or of another suffix; numbers may lack zeros.

        Raises:
            ManifestError: Several images have the name.
        """
        parts = [part for part in re.split(r"[\\/]+", name) if part not in ("", ".", "..")]
        if not parts:
            return None
        for wanted in (parts[-1], re.sub(r"\.[A-Za-z]{2,4}$", "", parts[-1])):
            found = self._images_by_stem.get(_key(wanted)) or []
            if not found and wanted.isdecimal():
                found = self._images_by_number.get(int(wanted), [])
            inside = [file for file in found if base and file.startswith(f"{base}/")]
            if len(inside or found) > 1:
                listed = " or ".join((inside or found)[:3])
                raise ManifestError(f"{self.root}: '{name}' may be {listed}; write its folder too")
            if found:
                return (inside or found)[0]
        return None

    @cached_property
    def _images_by_stem(self) -> dict[str, list[str]]:
        index: dict[str, list[str]] = defaultdict(list)
        for file in self.images:
            index[stem(file)].append(file)
        return index

    @cached_property
    def _images_by_number(self) -> dict[int, list[str]]:
        index: dict[int, list[str]] = defaultdict(list)
        for file in self.images:
            if stem(file).isdecimal():
                index[int(stem(file))].append(file)
        return index


def read_xml(
    path: Path, fix: str = "export it again", max_bytes: int = MAX_FILE_BYTES
) -> Element | None:
    """Read the root of an XML file with defusedxml, because it comes from an untrusted source.

    Args:
        path: The file.
        fix: End of the message.
        max_bytes: Largest size that is read.

    Raises:
        ManifestError: It is missing, too large or no XML, or declares entities, which can grow
            without bounds or read other files.
    """
    check_file(path, max_bytes, fix)
    try:
        return parse(path).getroot()
    except DefusedXmlException as error:
        raise ManifestError(
            f"{path} declares an entity ({type(error).__name__}), which no annotation needs; {fix}"
        ) from error
    except (ParseError, ValueError, LookupError, OSError, RecursionError) as error:
        raise ManifestError(f"{path} is not XML that can be read ({error}); {fix}") from error


def _json_kind(content: Any) -> str | None:
    """Return the annotation format of a JSON file's content; None if it is none that is known."""
    if isinstance(content, dict):
        if {"images", "annotations", "categories"} <= set(content):
            return "coco"
        return "labelme" if isinstance(content.get("shapes"), list) else None
    tasks = isinstance(content, list) and bool(content)
    if tasks and all(isinstance(task, dict) and "data" in task for task in content):
        return "label_studio"
    return None


def suffix(file: str) -> str:
    """Return the lower-case suffix of a file, such as `.png`, or `.nii.gz`.

    The end of a DICOM's name such as `1.2.840.1` is no suffix.
    """
    found = file_suffix(Path(file))
    return "" if found[1:].isdecimal() else found


def stem(file: str) -> str:
    """Return the name of a file without its suffix, in Unicode's composed form."""
    name = PurePosixPath(file).name
    return unicodedata.normalize("NFC", name[: len(name) - len(suffix(file))])


def folder_of(file: str) -> str:
    """Return the folder of a file relative to the root, empty for the root itself."""
    parent = PurePosixPath(file).parent.as_posix()
    return "" if parent == "." else parent


def words(name: str) -> set[str]:
    """Return the lower-case words of a folder's name: `imagesTr` has `images` and `tr`."""
    found = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)
    return {word.lower() for word in found}


def says_only(name: str, vocabulary: set[str]) -> bool:
    """Return True if all words of a folder's name are in a vocabulary, numbers left aside."""
    found = {word for word in words(name) if not word.isdecimal()}
    return bool(found) and found <= vocabulary


def split_of(file: str) -> str | None:
    """Return the split that the folders of a file name; None if none or several do."""
    found = {
        split
        for folder in PurePosixPath(file).parts[:-1]
        for split, names in SPLIT_WORDS.items()
        if words(folder) & names and says_only(folder, SPLIT_NAMES)
    }
    return found.pop() if len(found) == 1 else None


def without_splits(folder: str) -> tuple[str, ...]:
    """Return the parts of a folder's path that name neither a split, nor images, nor masks."""
    known = set().union(*SPLIT_WORDS.values()) | IMAGE_WORDS | MASK_WORDS | FORMAT_WORDS
    return tuple(part for part in PurePosixPath(folder).parts if not says_only(part, known))


def complete_splits(records: Sequence[ImageRecord]) -> str | None:
    """Make the splits of the folders usable; return a sentence about what was changed.

    All records need a split, or none has. Folders `train` and `val` without `test` give train and
    test, because a test set must not choose the weights; a tenth of train then becomes val.
    """
    splits = {record.split for record in records}
    if splits == {None}:
        return None
    if None in splits or "train" not in splits or len(splits) == 1:
        known = ", ".join(sorted(split for split in splits if split))
        for record in records:
            record.split = None
        return f"folders name only {known}: a new split is made"
    if splits == {"train", "val"}:
        for record in records:
            record.split = {"val": "test"}.get(str(record.split), record.split)
        return "no folder test: val is test, and a tenth of train becomes val"
    return "no folder val: a tenth of train becomes val" if "val" not in splits else None


def first_repeated(records: Sequence[ImageRecord]) -> str | None:
    """Return the first image that several records have; None if there is none."""
    seen: set[str] = set()
    for record in records:
        if record.image in seen:
            return record.image
        seen.add(record.image)
    return None


def list_files(files: Iterable[str]) -> str:
    """List the first files, and the number of the rest."""
    listed = list(files)
    more = f" and {len(listed) - MAX_LISTED} more" if len(listed) > MAX_LISTED else ""
    return ", ".join(listed[:MAX_LISTED]) + more


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _shared_end(first: Sequence[str], second: Sequence[str]) -> int:
    """Return how many parts two paths share at their ends."""
    shared = 0
    for one, other in zip(reversed(first), reversed(second), strict=False):
        if _key(one) != _key(other):
            break
        shared += 1
    return shared
