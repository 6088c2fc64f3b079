"""Reader and writer of volumes (NIfTI, NRRD, MetaImage), slice by slice.

Axes are numbered as nibabel indexes the array of the file: axis 0 is the one that varies fastest in
the file, which SimpleITK calls x. Nothing is resampled or reoriented: of the two axes that a slice
keeps, the one with the lower number runs to the right, and the other one down.
"""

import hashlib
import math
import sys
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Any, NamedTuple

import numpy as np

from datamodules.errors import MAX_FILE_BYTES, ContentError, ManifestError, UserError
from datamodules.formats.file_content import check_file
from datamodules.formats.file_stamp import file_stamp, value_files
from datamodules.formats.gray_levels import SourceImage, encode_levels
from datamodules.formats.image_io import check_frame, check_pixels

SAME_SPACING = 1.01  # ratio up to which two spacings are the same
MAX_OFFSET = 0.05  # distance of the corners of two equal grids, in parts of the smallest spacing
VOLUME_FACTOR = 4  # times the limit of files that a decoded volume may have in bytes
HEADER_BYTES = 2**14  # of a text header in which the name of a data file is looked for
BYTES_OF_TYPE = {
    **{
        f"{bits}-bit {kind} integer": bits // 8
        for bits in (8, 16, 32, 64)
        for kind in ("signed", "unsigned")
    },
    "32-bit float": 4,
    "64-bit float": 8,
}
MAX_KEPT_BYTES = 2**30  # of decoded volumes; two are kept however large they are
_decoders = BoundedSemaphore(4)  # volumes that are decoded at once, so that memory stays bounded


class SliceIndex(NamedTuple):
    """Position of a slice in its volume.

    Attributes:
        axis: Axis that the slice is perpendicular to, 0, 1 or 2.
        number: Index along this axis, from 0.
    """

    axis: int
    number: int


@dataclass(frozen=True)
class VolumeGrid:
    """Grid of a volume in the space of the patient (LPS, as in DICOM), without its values.

    A two-dimensional file is a volume of one slice.

    Attributes:
        size: Number of voxels along each axis.
        spacing: Distance of neighboring voxels in mm along each axis.
        origin: Position of the first voxel in mm.
        direction: Direction cosines `3 x 3`; column k is the direction of axis k.
        dimension: 2 for a two-dimensional file, else 3.
        frames: Number of volumes in the file, along a fourth axis.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]
    dimension: int = 3
    frames: int = 1

    @property
    def thick_axis(self) -> int:
        """Axis of a file's slices: the one of a single voxel, or of the largest spacing.

        Without any such axis it is the last one.
        """
        single = [axis for axis in range(3) if self.size[axis] == 1]
        if len(single) == 1:
            return single[0]
        ranked = sorted(range(3), key=lambda axis: self.spacing[axis])
        unique = self.spacing[ranked[2]] > SAME_SPACING * self.spacing[ranked[1]]
        return ranked[2] if unique else 2

    def slice_size(self, axis: int) -> tuple[int, int]:
        """Return height and width in pixels of the slices perpendicular to an axis."""
        first, second = (other for other in range(3) if other != axis)
        return self.size[second], self.size[first]

    def slice_spacing(self, axis: int) -> tuple[float, float]:
        """Return the distance of rows and of columns in mm of the slices of an axis."""
        first, second = (other for other in range(3) if other != axis)
        return self.spacing[second], self.spacing[first]

    def differs_from(self, other: "VolumeGrid") -> str:
        """Return how the grid differs from another one; empty if both are the same."""
        if self.size != other.size:
            sizes = [" x ".join(map(str, grid.size)) for grid in (self, other)]
            return f"{sizes[0]} and {sizes[1]} voxels"
        farthest = float(np.linalg.norm(self._corners - other._corners, axis=1).max())
        if farthest > MAX_OFFSET * min(self.spacing):
            return f"positions in space that are up to {farthest:.3g} mm apart"
        return ""

    @property
    def _corners(self) -> np.ndarray:
        """Positions of the eight corner voxels in mm, `8 x 3`."""
        ends = np.array(np.meshgrid(*([0, n - 1] for n in self.size))).reshape(3, 8)
        step = np.array(self.direction).reshape(3, 3) * np.array(self.spacing)
        return (step @ ends).T + np.array(self.origin)


@dataclass(frozen=True)
class Volume:
    """Values of a volume.

    Attributes:
        values: `Z x Y x X`, that is, axis 0 of the file is the last one.
    """

    values: np.ndarray

    def cut(self, index: SliceIndex) -> np.ndarray:
        """Return one slice `H x W`."""
        return np.ascontiguousarray(self.values.take(index.number, axis=2 - index.axis))

    @cached_property
    def digest(self) -> str:
        """Hash of the values, sha256."""
        return hashlib.sha256(np.ascontiguousarray(self.values).data).hexdigest()


def read_grid(path: Path) -> VolumeGrid:
    """Return the grid of a volume from the file's header, without decoding.

    Raises:
        ManifestError: The file is missing or no volume, or its values are colors or vectors.
    """
    with _translate_errors(path):
        return _grid_of(path, _open_reader(path))


def read_volume(path: Path, frame: int | None = None, max_bytes: int = MAX_FILE_BYTES) -> Volume:
    """Decode a whole volume.

    Args:
        path: The file; every error message names it.
        frame: Number of the volume that is read of a file of several; None refuses such files.
        max_bytes: Limit of files; the values of a volume may have four times as many bytes.

    Raises:
        ManifestError: See `read_grid`; or the file cannot be decoded, or the frame does not exist.
    """
    with _translate_errors(path), _decoders:
        reader = _open_reader(path)
        import SimpleITK  # is installed, because the reader is open

        grid = _grid_of(path, reader)
        _check_size(path, reader, max_bytes)
        if grid.frames > 1 or frame is not None:
            frame = check_frame(path, grid.frames, frame)
        if (beyond := len(reader.GetSize()) - 3) > 0:
            reader.SetExtractSize([*grid.size, *[0] * beyond])
            reader.SetExtractIndex([0, 0, 0, frame or 0, *[0] * (beyond - 1)])
        values = SimpleITK.GetArrayFromImage(reader.Execute())
    return Volume(values if values.ndim == 3 else values[None])


def read_slice(
    path: Path,
    index: SliceIndex | None,
    channels: int,
    frame: int | None,
    max_pixels: int,
    max_bytes: int = MAX_FILE_BYTES,
) -> SourceImage:
    """Read one slice of a volume as an image; its volume stays decoded for the next slices.

    Args:
        path: The file.
        index: Position of the slice; None for a file of one slice.
        channels: Number of equal channels.
        frame: See `read_volume`.
        max_pixels: Largest slice that is accepted, in pixels.
        max_bytes: See `read_volume`.

    Returns:
        Gray levels of 8 bits of a volume of uint8, which stay as they are; else levels of 16 bits.

    Raises:
        ManifestError: See `read_volume`; or the slice does not exist or is too large.
        ContentError: The slice has a voxel that is NaN or infinite.
    """
    values = cut_slice(path, index, frame, max_bytes)
    height, width = values.shape
    check_pixels(path, height, width, max_pixels)
    if values.dtype == np.uint8:
        return SourceImage(values[..., None].repeat(channels, 2))
    if values.dtype.kind == "f" and (lost := int(np.count_nonzero(~np.isfinite(values)))):
        raise ContentError(
            f"{path} holds {lost} voxel{'s' * (lost > 1)} in slice {index.number if index else 0}"
            f" that {'are' if lost > 1 else 'is'} NaN or infinite; write finite numbers there, or"
            " take the file out of the data set"
        )
    levels, meaning = encode_levels(values)
    return SourceImage(levels[..., None].repeat(channels, 2), meaning)


def cut_slice(
    path: Path, index: SliceIndex | None, frame: int | None, max_bytes: int = MAX_FILE_BYTES
) -> np.ndarray:
    """Return the values of one slice, `H x W`; its volume stays decoded for the next slices.

    Raises:
        ManifestError: See `read_slice`.
    """
    volume = decoded_volume(path, frame, max_bytes)
    size = volume.values.shape[::-1]
    if index is None:
        single = [axis for axis in range(3) if size[axis] == 1]
        if not single:
            raise ManifestError(
                f"{path} is a volume of {' x '.join(map(str, size))} voxels where one image is"
                " expected; name the slice in a column slice of the manifest, or read the folder"
                " with datamodule=own_data"
            )
        index = SliceIndex(single[-1], 0)
    if index.number >= size[index.axis]:
        raise ManifestError(
            f"{path} has {size[index.axis]} slices along axis {index.axis}, and slice"
            f" {index.number} is asked for; correct the columns slice and axis of the manifest"
        )
    return volume.cut(index)


def decoded_volume(path: Path, frame: int | None, max_bytes: int = MAX_FILE_BYTES) -> Volume:
    """Return a volume that stays decoded until others take its place; safe in threads."""
    files = [path, *value_files(path)] if path.is_file() else []
    stamp = tuple(map(file_stamp, files))
    return _kept.get((path, stamp, frame), lambda: read_volume(path, frame, max_bytes))


def forget_volumes() -> None:
    """Free the memory of the decoded volumes."""
    _kept.clear()


class _KeptVolumes:
    """The volumes that were used last; threads that ask for one volume wait for one decoder."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._volumes: OrderedDict[Any, Future[Volume]] = OrderedDict()

    def get(self, key: Any, decode: Any) -> Volume:
        """Return the volume of a key; `decode` makes it if it is not there."""
        with self._lock:
            future = self._volumes.get(key)
            is_new = future is None
            if future is None:
                future = self._volumes[key] = Future()
            self._volumes.move_to_end(key)
        if is_new:
            try:
                future.set_result(decode())
            except BaseException as error:
                with self._lock:
                    self._volumes.pop(key, None)
                future.set_exception(error)
            self._shrink()
        return future.result()

    def clear(self) -> None:
        """Drop all volumes."""
        with self._lock:
            self._volumes.clear()

    def _shrink(self) -> None:
        with self._lock:
            done = [key for key, future in self._volumes.items() if future.done()]
            sizes = {key: self._volumes[key].result().values.nbytes for key in done}
            for key in done[:-2]:
                if sum(sizes.values()) <= MAX_KEPT_BYTES:
                    break
                del self._volumes[key], sizes[key]


_kept = _KeptVolumes()


def write_volume(path: Path, values: np.ndarray, grid: VolumeGrid) -> None:
    """Write a label map in the format of the file's suffix, on the grid of an image.

    Args:
        path: The file; .mhd and .nhdr write their values into a second file beside it.
        values: uint8 `Z x Y x X`, as in `Volume`.
        grid: Grid of the image.
    """
    import SimpleITK

    flat = grid.dimension == 2
    image = SimpleITK.GetImageFromArray(values[0] if flat else values)
    direction = np.array(grid.direction).reshape(3, 3)[: grid.dimension, : grid.dimension]
    image.SetSpacing(grid.spacing[: grid.dimension])
    image.SetOrigin(grid.origin[: grid.dimension])
    image.SetDirection(direction.ravel().tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(path), useCompression=path.suffix.lower() != ".nii")


def _open_reader(path: Path) -> Any:
    """Return a SimpleITK reader that has read the header of a file."""
    try:
        import SimpleITK
    except ImportError as error:
        raise UserError(
            f"{path} needs the package SimpleITK; pip install 'medical-lightning[formats]'"
        ) from error
    check_file(path, sys.maxsize)
    _check_data_files(path)
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return reader


def _check_data_files(path: Path) -> None:
    """Refuse a header (.mhd, .nhdr) whose values are in a file outside its folder, or in no file.

    Raises:
        ManifestError: The message names the file.
    """
    if path.suffix.lower() not in (".mhd", ".nhdr", ".mha", ".nrrd"):
        return
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES).partition(b"\n\n")[0].decode("latin-1")
    for line in head.splitlines():
        key, _, value = line.partition("=" if path.suffix.lower() in (".mhd", ".mha") else ":")
        if key.strip().lower() not in ("elementdatafile", "data file", "datafile"):
            continue
        named = value.strip()
        if named.upper().startswith(("LOCAL", "LIST", "SKIPLIST")) or "%" in named:
            continue
        other = path.parent / named
        if not other.resolve().is_relative_to(path.parent.resolve()):
            raise ManifestError(
                f"{path} names the data file '{named}', which lies outside its folder; put the file"
                " beside it"
            )
        check_file(other, sys.maxsize, f"{path.name} names it; put it there, or remove both")


def _check_size(path: Path, reader: Any, max_bytes: int) -> None:
    """Refuse a volume that would decode to more than is read, or than its file holds.

    Raises:
        ManifestError: The message says how many bytes the header announces.
    """
    voxels = math.prod(reader.GetSize()[:3])
    size = voxels * reader.GetNumberOfComponents() * BYTES_OF_TYPE.get(_type_name(reader), 8)
    limit = VOLUME_FACTOR * max_bytes
    if size > limit:
        raise ManifestError(
            f"{path} has a header of {' x '.join(map(str, reader.GetSize()))} voxels, which are"
            f" {size:,} bytes, above the limit of {limit:,}; replace it, or set"
            f" datamodule.max_file_bytes={-(-size // VOLUME_FACTOR)} to read it"
        )
    if path.name.lower().endswith(".gz"):
        with path.open("rb") as file:
            file.seek(-min(4, path.stat().st_size), 2)
            unpacked = int.from_bytes(file.read(4), "little")  # of the last 4 GB
        if unpacked < size % 2**32 and size < 2**32:
            raise ManifestError(
                f"{path} has a header of {size:,} bytes of voxels, and holds {unpacked:,}; it is"
                " cut off, replace the file or take it out of the data set"
            )
    elif path.suffix.lower() == ".nii" and path.stat().st_size < size:
        raise ManifestError(
            f"{path} has a header of {size:,} bytes of voxels, and holds {path.stat().st_size:,};"
            " it is cut off, replace the file or take it out of the data set"
        )


def _type_name(reader: Any) -> str:
    import SimpleITK

    return str(SimpleITK.GetPixelIDValueAsString(reader.GetPixelID()))


def _grid_of(path: Path, reader: Any) -> VolumeGrid:
    size, dimension = reader.GetSize(), reader.GetDimension()
    if reader.GetNumberOfComponents() > 1:
        raise ContentError(
            f"{path} holds {reader.GetNumberOfComponents()} numbers per voxel (colors, vectors or"
            " layers), and one is read; write a gray volume or a label map"
        )
    if dimension < 2 or any(n > 1 for n in size[4:]):
        raise ContentError(
            f"{path} has {dimension} axes ({' x '.join(map(str, size))}); write a volume of two to"
            " four"
        )
    within = min(dimension, 3)
    spacing, origin, direction = [1.0] * 3, [0.0] * 3, np.eye(3)
    spacing[:within] = reader.GetSpacing()[:within]
    origin[:within] = reader.GetOrigin()[:within]
    cosines = np.array(reader.GetDirection()).reshape(dimension, dimension)
    direction[:within, :within] = cosines[:within, :within]
    return VolumeGrid(
        (*size[:within], 1)[:3],
        tuple(spacing),  # type: ignore[arg-type]
        tuple(origin),  # type: ignore[arg-type]
        tuple(direction.ravel().tolist()),
        within,
        size[3] if dimension > 3 else 1,
    )


@contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    """Convert errors of SimpleITK into a ManifestError that names the file."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise ManifestError(
            f"{path} does not exist; restore the file or take it out of the data set"
        ) from error
    except Exception as error:  # SimpleITK raises RuntimeError with lines of its own sources
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = next((line for line in reversed(lines) if "rror" in line), lines[-1:] or "")
        raise ManifestError(
            f"{path} cannot be read as a volume ({str(reason)[:160]}); replace the file or take it"
            " out of the data set"
        ) from error
