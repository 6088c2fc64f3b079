"""Search for the image files of a folder, by suffix or content, without the junk of systems."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from datamodules.errors import ManifestError, UserError

DICOM_SUFFIXES = {".dcm", ".dicom", ".ima"}
IMAGE_SUFFIXES = {
    ".jpg",
    ".jpeg",
    ".jfif",
    ".png",
    ".bmp",
    ".gif",
    ".webp",
    ".tif",
    ".tiff",
    *DICOM_SUFFIXES,
}  # suffixes of the files that are read
VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
JUNK_NAMES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx"}  # in lower case
DICM_OFFSET = 128  # bytes of preamble before the mark DICM
# first bytes of a DICOM without preamble: group 0002 (file meta) or 0008, little endian
BARE_GROUPS = (b"\x02\x00", b"\x08\x00")
MAX_BARE_LENGTH = 1024  # bytes; the first element of a DICOM is a number, a name or an identifier


def is_junk(path: Path) -> bool:
    """Return True for a file or folder that systems and tools leave behind.

    These are hidden ones (`.DS_Store`, `._image.png`, `.ipynb_checkpoints`), `__MACOSX`,
    `Thumbs.db` and `desktop.ini`. Only the name is looked at.
    """
    return path.name.startswith(".") or path.name.lower() in JUNK_NAMES


def is_image_file(path: Path) -> bool:
    """Return True if a file is an image by its suffix, or a DICOM with an image by its content.

    A DICOMDIR or a report has no image.
    """
    if is_junk(path) or not path.is_file():
        return False
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return True
    if not is_dicom(path, None):
        return False
    from datamodules.formats.dicom import has_image  # imports pydicom, which most runs do not need

    return has_image(path)


def reason_for_no_image(path: Path) -> str:
    """Return why a file is no image, for a person; empty if it is one."""
    if not is_junk(path) and is_dicom(path, None):
        from datamodules.formats.dicom import read_dicom_elements

        try:
            header = read_dicom_elements(path, ["Rows", "Columns", "Modality"])
        except UserError:
            return ""  # its error is reported when it is read
        if not header.get("Rows"):
            return f"a DICOM without an image (modality {header.get('Modality', 'unknown')})"
    return "" if is_image_file(path) else "no image by its suffix or content"


def is_volume(path: Path) -> bool:
    """Return True if a file is a volume (NIfTI, NRRD, MetaImage) by its suffix."""
    return path.name.lower().endswith(VOLUME_SUFFIXES)


def image_files(folder: Path) -> list[Path]:
    """List the image files of a folder and its subfolders, ordered by path, without junk."""
    return sorted(path for path in walk_files(folder) if is_image_file(path))


def volume_files(folder: Path) -> list[Path]:
    """List the volumes of a folder and its subfolders, ordered by path, without junk."""
    return sorted(path for path in walk_files(folder) if is_volume(path))


def file_suffix(path: Path) -> str:
    """Return the suffix of a file in lower case, `.nii.gz` as a whole."""
    return ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()


def walk_files(folder: Path) -> Iterator[Path]:
    """Yield every regular file below a folder that is no junk, following links to folders.

    A cycle of links is followed once. Pipes, sockets, devices and broken links are left out, see
    `special_files`.
    """
    return (path for path, regular in _walk(folder) if regular)


def special_files(folder: Path) -> list[Path]:
    """List what is neither a file nor a folder: pipes, sockets, devices and broken links."""
    return sorted(path for path, regular in _walk(folder) if not regular)


def _walk(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Yield everything below a folder that is neither junk nor a folder, and if it is a file."""
    pending, seen = [folder], {folder.resolve()}
    while pending:
        place = pending.pop()
        try:
            with os.scandir(place) as entries:
                found = [entry for entry in entries if not is_junk(Path(entry.name))]
        except FileNotFoundError:  # it is missing, or was removed meanwhile
            continue
        except OSError as error:
            raise ManifestError(
                f"the folder {place} cannot be read ({error.strerror}); make it readable, or move"
                " it away"
            ) from error
        for entry in found:
            path = place / entry.name
            if any("\ud800" <= letter <= "\udfff" for letter in entry.name):
                shown = entry.name.encode("utf-8", "replace").decode()
                raise ManifestError(
                    f"{place} holds a file '{shown}', whose name is no UTF-8; rename it"
                )
            if not _is(entry.is_dir):
                yield path, _is(entry.is_file)
            elif _mark_visited(path.resolve(), seen):
                pending.append(path)


def _is(question: Callable[[], bool]) -> bool:
    """Return the answer of an entry; False for a link that leads to itself."""
    try:
        return question()
    except OSError:
        return False


def image_name(path: Path) -> str:
    """Return a file's name without the suffix of an image; `1.2.840.1` has no suffix."""
    known = path.suffix.lower() in IMAGE_SUFFIXES or is_volume(path)
    return path.name[: -len(file_suffix(path))] if known else path.name


def is_dicom(path: Path, data: bytes | None) -> bool:
    """Return True if name or content is that of a DICOM; exports often have no suffix.

    Args:
        path: The file.
        data: The file's bytes if they were read already.
    """
    if path.suffix.lower() == ".dcm":
        return True
    if data is None:
        if not path.is_file():  # a pipe would hang
            return False
        try:
            with path.open("rb") as file:
                data = file.read(DICM_OFFSET + 4)
        except OSError:
            return False
    return data[DICM_OFFSET : DICM_OFFSET + 4] == b"DICM" or is_bare_dicom(data)


def is_bare_dicom(data: bytes) -> bool:
    """Return True if bytes begin like a DICOM data set without preamble.

    The first element is then of group 0002 or 0008, with a type of two capital letters or a short
    length.
    """
    if len(data) < 16 or data[:2] not in BARE_GROUPS:
        return False
    if data[4:6].isalpha() and data[4:6].isupper():
        return int.from_bytes(data[6:8], "little") <= MAX_BARE_LENGTH
    return 0 < int.from_bytes(data[4:8], "little") <= MAX_BARE_LENGTH


def _mark_visited(place: Path, seen: set[Path]) -> bool:
    """Add a folder to the visited ones; return False if it was visited before."""
    new = place not in seen
    seen.add(place)
    return new
