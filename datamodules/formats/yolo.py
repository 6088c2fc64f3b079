"""Layout of YOLO segmentation: images/ and labels/ with one text file per image.

Format: https://docs.ultralytics.com/datasets/segment/
"""

from pathlib import Path, PurePosixPath
from typing import Any

from datamodules.errors import ManifestError
from datamodules.formats.file_content import shorten
from datamodules.formats.layout import (
    FolderTree,
    ImageRecord,
    Layout,
    LayoutContent,
    LayoutOptions,
    Outline,
    split_of,
)
from datamodules.formats.outlines import box_polygon, fill_polygons, scale_polygon
from datamodules.formats.yaml_content import read_yaml_mapping


class YoloLayout(Layout):
    """YOLO-seg: `images/a.jpg` with `labels/a.txt`; `data.yaml` names the classes."""

    name = "yolo"
    task = "masks"
    looks_for = "images/ and labels/ with one .txt per image, and data.yaml (YOLO-seg)"

    def match(self, tree: FolderTree, options: LayoutOptions) -> str | None:
        """Recognize text files in `labels/` that have the names of images in `images/`."""
        pairs = _label_files(tree)
        found = sum(label is not None for label in pairs.values())
        return f"{found} images with a file of outlines in labels/" if found else None

    def read(self, tree: FolderTree, options: LayoutOptions) -> LayoutContent:
        """Read the outlines; they are fractions of the image's width and height."""
        names, source = _read_names(tree)
        records, counted = [], []
        for image, label in _label_files(tree).items():
            record = ImageRecord(image, split_of(image), annotated=label is not None)
            if label is not None:
                notes = _read_outlines(tree, label, record, names, source)
                counted += [(note, image) for note in notes]
            records.append(record)
        used = {outline.name for record in records for outline in record.outlines}
        return LayoutContent(
            records, [name for name in names.values() if name in used], counted=counted
        )


def _label_files(tree: FolderTree) -> dict[str, str | None]:
    """Return the file of outlines of each image in a folder `images`; None without one."""
    files = set(tree.files)
    found: dict[str, str | None] = {}
    for image in tree.files:
        parts = PurePosixPath(image).parts
        if "images" not in parts[:-1] or not tree.is_image(image):
            continue
        place = len(parts) - 1 - parts[::-1].index("images")  # Ultralytics takes the last one
        moved = PurePosixPath(*parts[:place], "labels", *parts[place + 1 :])
        label = moved.with_suffix(".txt").as_posix()
        found[image] = label if label in files else None
    return found


def _read_names(tree: FolderTree) -> tuple[dict[int, str], str]:
    """Return the class names by number, and the file that names them.

    Raises:
        ManifestError: No file names the classes, or several do.
    """
    found, unreadable = [], ""
    for file in tree.with_suffix(".yaml", ".yml"):
        try:
            content = read_yaml_mapping(tree.path(file), tree.reader.max_file_bytes)
        except ManifestError as error:  # it may be of another program
            unreadable = f" ({error})"
            continue
        names: Any = content.get("names")
        names = dict(enumerate(names)) if isinstance(names, list) else names
        if isinstance(names, dict):
            found.append((_check_names(names, tree.path(file)), file))
    for file in tree.files:
        if PurePosixPath(file).name in ("classes.txt", "obj.names") and not found:
            lines = tree.read_text(file).splitlines()
            found.append(({n: line.strip() for n, line in enumerate(lines) if line.strip()}, file))
    if len({str(names) for names, _ in found}) != 1:
        listed = ", ".join(file for _, file in found)
        problem = (
            f"files that name the classes differently ({listed})"
            if found
            else f"no data.yaml{unreadable}"
        )
        raise ManifestError(
            f"{tree.root} has {problem}; write one data.yaml that names the classes,"
            " names: [lesion, ...]"
        )
    return found[0]


def _check_names(names: dict[Any, Any], path: Path) -> dict[int, str]:
    """Return the class names by number.

    Raises:
        ManifestError: A number or a name is none.
    """
    for number, name in names.items():
        if type(number) is not int or not isinstance(name, str | int):
            raise ManifestError(
                f"{path} has names[{shorten(repr(number), 40)}]={shorten(repr(name), 40)}; write"
                " class numbers and their names, names: {0: lesion}"
            )
    return {number: str(name) for number, name in names.items()}


def _read_outlines(
    tree: FolderTree, label: str, record: ImageRecord, names: dict[int, str], source: str
) -> list[str]:
    """Add the outlines of a text file to a record; return what was repaired."""
    path = tree.path(label)
    height, width = tree.image_size(record.image)
    notes = []
    for number, line in enumerate(tree.read_text(label).splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        where = f"{path}: line {number}"
        try:
            kind, *values = int(words[0]), *map(float, words[1:])
        except ValueError as error:
            raise ManifestError(
                f"{where} is '{shorten(line, 60)}'; write a class number, then x and y in turn"
            ) from error
        if kind not in names:
            raise ManifestError(
                f"{where} has the class {kind}, which {source} does not name; add it there"
            )
        if len(values) < 4:
            raise ManifestError(
                f"{where} has {len(values)} coordinates; write x and y of three points or more, or"
                " the center, width and height of a box"
            )
        box_only = len(values) == 4
        if box_only:
            x, y, w, h = values
            values = box_polygon(x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        polygon = scale_polygon(values, height, width, where)
        rle, repairs = fill_polygons([polygon], height, width, where)
        notes += repairs
        if rle is not None:
            record.outlines.append(Outline(names[kind], where, rle, box_only))
    return notes
