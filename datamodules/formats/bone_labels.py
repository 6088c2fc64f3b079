"""Label file of a BS-80K folder.

It has one line per image: its name, a tab, and 0 (normal) or 1 (abnormal).
"""

import codecs
import io
from dataclasses import dataclass, field
from pathlib import Path

from datamodules.refusal import ManifestError

LABELS = {"0": 0, "1": 1}


@dataclass
class BoneLabels:
    """Content of a label file.

    Attributes:
        of: File name to 0 or 1, in the file's order.
        line: File name to the line, from 1, that names it first.
        blank: Number of empty lines.
        repeated: Names that occur again with the same label.
    """

    of: dict[str, int] = field(default_factory=dict)
    line: dict[str, int] = field(default_factory=dict)
    blank: int = 0
    repeated: list[str] = field(default_factory=list)


def read_labels(path: Path) -> BoneLabels:
    """Read a label file, with the line endings of any system.

    It is UTF-8 with or without a byte-order mark, or UTF-16 with one.

    Raises:
        ManifestError: unreadable, without any label, or a line that has no tab, no name, a label
            other than 0 and 1, or another label than an earlier line of the same image.
    """
    labels = BoneLabels()
    for number, line in enumerate(io.StringIO(_read_text(path), newline=None), start=1):
        if not line.strip():
            labels.blank += 1
            continue
        name, label = _parse_labels(path, number, line.strip(" \r\n"))
        if labels.of.setdefault(name, label) != label:
            first = f"is {labels.of[name]} in line {labels.line[name]} and {label} in line {number}"
            raise ManifestError(
                f"{path}: the label of '{name}' {first}; remove the line that is wrong"
            )
        if labels.line.setdefault(name, number) != number:
            labels.repeated.append(name)
    if not labels.of:
        raise ManifestError(
            f"{path} holds no label; write one line an image, such as '1.jpg<TAB>0', or restore the"
            " file"
        )
    return labels


def _parse_labels(path: Path, number: int, line: str) -> tuple[str, int]:
    if "\t" not in line:
        raise ManifestError(
            f"line {number} of {path} has no tab ('{line[:60]}'); write the image's name, a tab,"
            " and 0 or 1"
        )
    name, label = (part.strip() for part in line.split("\t", 1))
    if not name:
        raise ManifestError(
            f"line {number} of {path} names no image before its tab; write the image's name there,"
            " or remove the line"
        )
    if label not in LABELS:
        raise ManifestError(
            f"line {number} of {path} labels '{name}' as '{label[:60]}'; write 0 for normal or 1"
            " for abnormal"
        )
    return name, LABELS[label]


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return data.decode(
            "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
        )
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(
            f"{path} cannot be read as text ({error}); save it as UTF-8, or restore the file"
        ) from error
