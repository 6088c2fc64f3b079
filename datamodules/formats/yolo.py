"""Layout of YOLO segmentation: images/ and labels/ with one text file per image.

Format: https://docs.ultralytics.com/datasets/segment/
"""

from pathlib import PurePosixPath
from typing import Any

import yaml

from datamodules.errors import ManifestError
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
    found = []
    for file in tree.with_suffix(".yaml", ".yml"):
        try:
            content: Any = yaml.safe_load(tree.path(file).read_text(encoding="utf-8-sig"))
        except (yaml.YAMLError, UnicodeDecodeError, OSError):
            continue
        names = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, list):
            found.append(({n: str(name) for n, name in enumerate(names)}, file))
        elif isinstance(names, dict):
            found.append(({int(n): str(name) for n, name in names.items()}, file))
    for file in tree.files:
        if PurePosixPath(file).name in ("classes.txt", "obj.names") and not found:
            lines = tree.path(file).read_text(encoding="utf-8-sig").splitlines()
            found.append(({n: line.strip() for n, line in enumerate(lines) if line.strip()}, file))
    if len({str(names) for names, _ in found}) != 1:
        listed = ", ".join(file for _, file in found)
        problem = f"files that name the classes differently ({listed})" if found else "no data.yaml"
        raise ManifestError(
            f"{tree.root} has {problem}; write one data.yaml that names the classes,"
            " names: [lesion, ...]"
        )
    return found[0]


def _read_outlines(
    tree: FolderTree, label: str, record: ImageRecord, names: dict[int, str], source: str
) -> list[str]:
    """Add the outlines of a text file to a record; return what was repaired."""
    path = tree.path(label)
    height, width = tree.image_size(record.image)
    notes = []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is not a text file ({error}); export it again") from error
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        where = f"{path}: line {number}"
        try:
            kind, *values = int(words[0]), *map(float, words[1:])
        except ValueError as error:
            raise ManifestError(
                f"{where} is '{line[:60]}'; write a class number, then x and y in turn"
            ) from error
        if kind not in names:
            raise ManifestError(
                f"{where} has the class {kind}, which {source} does not name; add it there"
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
