"""Reader of image files: gray or RGB levels in the depth and orientation of their data set."""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from datamodules.errors import MAX_FILE_BYTES, MAX_IMAGE_PIXELS, ContentError, ManifestError
from datamodules.formats.file_content import check_file, read_bytes
from datamodules.formats.gray_levels import (
    EIGHT_BITS,
    MAX_UNIFORM_SPREAD,
    SourceImage,
    encode_levels,
    stack_channels,
)
from datamodules.formats.image_files import is_dicom, is_volume
from datamodules.formats.png import find_png_damage

if TYPE_CHECKING:
    from datamodules.formats.volumes import SliceIndex

Image.MAX_IMAGE_PIXELS = None  # `ImageReader.max_pixels` is checked instead, from the header
# formats of Pillow that are read; others run programs (EPS: Ghostscript), or have no pixels
# (JPEG includes MPO)
IMAGE_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000")
ORIENTATION_TAG, PHOTOMETRIC_TAG, BITS_TAG = 274, 262, 258  # of EXIF and TIFF
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}  # EXIF orientation -> function that turns stored pixels `H x W ...` as viewers show them
INVERSE_TURNS = {6: 8, 8: 6}  # the others are their own inverse
SWAPS_SIDES = (5, 6, 7, 8)  # orientations that exchange height and width
Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class ImageReader:
    """Reader of all image files of one data set.

    Attributes:
        frame: Number from 0 of the frame that is read of a multi-page TIFF, an animation, a
            multi-frame DICOM or a 4-D volume; None refuses such files, and `channels` reads all
            their frames as the channels of one image.
        max_pixels: Largest image that is decoded, in pixels.
        max_file_bytes: Largest file that is read whole, in bytes.
        ignore_dicom_windows: True to read the values of DICOMs, to which the window of the data set
            is applied, and not to apply their own windows.
    """

    frame: int | Literal["channels"] | None = None
    max_pixels: int = MAX_IMAGE_PIXELS
    max_file_bytes: int = MAX_FILE_BYTES
    ignore_dicom_windows: bool = False

    def read(
        self,
        path: Path,
        channels: int,
        data: bytes | None = None,
        annotated_size: Callable[[], Size | None] = lambda: None,
        index: "SliceIndex | None" = None,
    ) -> SourceImage:
        """Decode an image file, a DICOM or a slice of a volume.

        8-bit images stay as they are. Deeper ones keep their depth, see `gray_levels`; a DICOM that
        has a window or VOI LUT of its own is windowed to 8 bits by it.

        Args:
            path: The file; every error message names it.
            channels: 1 for gray, 3 for RGB; the number of frames if `frame` is `channels`.
            data: The file's bytes if they were read already.
            annotated_size: Function that returns the height and width that the annotation gives the
                image, or None. It is called for images with an EXIF orientation that exchanges
                height and width. They are turned as viewers show them, unless this size fits only
                the stored image.
            index: Position of the slice in a volume; None for a file of one image.

        Raises:
            ManifestError: The file is missing, truncated, not an image, or larger than
                `max_pixels`; or `frame` is not one of its frames. For a DICOM see `read_dicom`.
            ContentError: A float image has a pixel that is NaN or infinite.
        """
        if self.frame == "channels":
            return self._read_frames(path, channels, data, annotated_size, index)
        if channels not in (1, 3):
            raise ManifestError(
                f"{path} is one image of one or three channels, and datamodule.channels={channels};"
                " set datamodule.channels=1 (gray) or 3 (RGB), or datamodule.frame=channels if its"
                " frames are the channels"
            )
        if is_volume(path):
            from datamodules.formats.volumes import read_slice  # imports this module

            return read_slice(
                path, index, channels, self.frame, self.max_pixels, self.max_file_bytes
            )
        if is_dicom(path, data):
            from datamodules.formats.dicom import (
                read_dicom,  # pydicom takes half a second to import, and most runs have no DICOM
            )

            gray = read_dicom(path, data, self)
            return gray if channels == 1 else replace(gray, pixels=gray.pixels.repeat(channels, 2))
        # read here, because Pillow would map a TIFF into memory and then turn it wrongly
        data = read_bytes(path, self.max_file_bytes) if data is None else data
        image = self._open(path, data)
        _check_whole(path, data)
        before = read_orientation(image)  # Pillow turns a TIFF while it decodes it
        _load(path, image)
        deep_color = len(image.getbands()) > 1 and bit_depth(image, data) > 8
        if deep_color:
            source = _deep_color_source(path, image, channels, data)
        else:
            source = _to_source(path, image, channels)
        if image.format == "TIFF":
            return self._orient(source, before, annotated_size, is_turned=not deep_color)
        return self._orient(source, read_orientation(image), annotated_size, is_turned=False)

    def _read_frames(
        self,
        path: Path,
        channels: int,
        data: bytes | None,
        annotated_size: Callable[[], Size | None],
        index: "SliceIndex | None",
    ) -> SourceImage:
        """Read all frames of a file, in gray, as the channels of one image; see `read`."""
        frames = self.count_frames(path, data)
        if frames != channels:
            raise ManifestError(
                f"{path} holds {frames} frame{'s' * (frames > 1)}, and datamodule.channels="
                f"{channels}; set datamodule.channels={frames}, or take the file out of the data"
                " set"
            )
        single = [replace(self, frame=number if frames > 1 else None) for number in range(frames)]
        return stack_channels([one.read(path, 1, data, annotated_size, index) for one in single])

    def count_frames(self, path: Path, data: bytes | None = None) -> int:
        """Return the number of frames of a file, from its header."""
        if is_volume(path):
            from datamodules.formats.volumes import read_grid

            return read_grid(path).frames
        if is_dicom(path, data):
            from datamodules.formats.dicom import read_dicom_elements

            return int(read_dicom_elements(path, ["NumberOfFrames"]).get("NumberOfFrames") or 1)
        with replace(self, frame=0)._open(path, data) as image:
            return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)

    @staticmethod
    def _orient(
        source: SourceImage,
        orientation: int,
        annotated_size: Callable[[], Size | None],
        is_turned: bool,
    ) -> SourceImage:
        """Turn an image by its EXIF orientation, unless its annotation fits only the stored one.

        Args:
            source: The decoded image.
            orientation: EXIF orientation of the file.
            annotated_size: See `read`.
            is_turned: True if `source` is turned already.
        """
        if orientation == 1:
            return source
        inverse = TURNS[INVERSE_TURNS.get(orientation, orientation)]
        turned = source.pixels if is_turned else TURNS[orientation](source.pixels)
        height, width = turned.shape[:2]
        keep = orientation in SWAPS_SIDES and _fits_only_stored((height, width), annotated_size())
        pixels = np.ascontiguousarray(inverse(turned) if keep else turned)
        return replace(source, pixels=pixels, turned=not keep, kept_as_stored=keep)

    def decode(self, path: Path, data: bytes) -> Image.Image:
        """Decode a file with Pillow; modes, palettes, depths and orientation stay as stored.

        Raises:
            ManifestError: See `read`.
        """
        image = self._open(path, data)
        _check_whole(path, data)
        _load(path, image)
        return image

    def read_size(
        self,
        path: Path,
        annotated_size: Size | None = None,
        index: "SliceIndex | None" = None,
    ) -> Size:
        """Return height and width in pixels from the file's header, without decoding.

        Args:
            path: The file.
            annotated_size: See `read`.
            index: See `read`.

        Raises:
            ManifestError: See `read`.
        """
        if is_volume(path):
            from datamodules.formats.volumes import read_grid

            grid = read_grid(path)
            return grid.slice_size(grid.thick_axis if index is None else index.axis)
        if is_dicom(path, None):
            from datamodules.formats.dicom import read_dicom_size

            return read_dicom_size(path, self.max_pixels)
        with self._open(path, None) as image:
            size = image.height, image.width
            orientation = read_orientation(image)
            swapped = orientation in SWAPS_SIDES
            shown = size[::-1] if swapped and image.format != "TIFF" else size
            stored = swapped and _fits_only_stored(shown, annotated_size)
            return shown[::-1] if stored else shown

    def _open(self, path: Path, data: bytes | None) -> Image.Image:
        if data is None:
            check_file(path, self.max_file_bytes)
        try:
            image = Image.open(path if data is None else io.BytesIO(data), formats=IMAGE_FORMATS)
            frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
            frame = 0 if self.frame == "channels" else self.frame
            if frame is not None or frames > 1:
                image.seek(check_frame(path, frames, frame))
        except ManifestError:
            raise
        except Exception as error:  # damaged headers make Pillow raise anything, also KeyError
            raise ManifestError(
                f"{path} is not an image that can be read ({_short_reason(error)}); replace or"
                " remove it"
            ) from error
        check_pixels(path, image.height, image.width, self.max_pixels)
        return image


DEFAULT_READER = ImageReader()


def read_image(path: Path, channels: int, data: bytes | None = None) -> np.ndarray:
    """Decode one file without a data set: a deep image is displayed by its own range.

    Images of a data set have one window in common; see `ImageReader` and `LevelMap`.

    Returns:
        uint8 `H x W x channels`.

    Raises:
        ManifestError: See `ImageReader.read`.
    """
    return DEFAULT_READER.read(path, channels, data).to_uint8(None)


def check_frame(path: Path, frames: int, frame: int | None) -> int:
    """Return the chosen frame of a file of several frames.

    Raises:
        ManifestError: None is chosen, or the chosen one does not exist.
    """
    if frame is None:
        raise ManifestError(
            f"{path} holds {frames} frames, and one is read of each file; choose it with"
            f" datamodule.frame=0 (up to {frames - 1}), or write every frame as its own file"
        )
    if frame >= frames:
        raise ManifestError(
            f"{path} holds {frames} frame{'s' * (frames > 1)}, so datamodule.frame={frame} does not"
            f" exist; set datamodule.frame={frames - 1} or less, or take the file out of the data"
            " set"
        )
    return frame


def check_pixels(path: Path, height: int, width: int, max_pixels: int) -> None:
    """Refuse an image whose header announces more pixels than are decoded."""
    if height * width > max_pixels:
        raise ManifestError(
            f"{path} has a header size above the limit of {max_pixels:,} pixels ({height} x"
            f" {width}); replace or remove it, or set datamodule.max_pixels={height * width} to"
            " read it"
        )


def is_nearly_uniform(pixels: np.ndarray) -> bool:
    """Return True if uint8 pixels `H x W x C` show nothing.

    The central 99.8 % of the pixels of every channel then span at most MAX_UNIFORM_SPREAD levels.
    """
    return all(
        _gray_spread(np.ascontiguousarray(pixels[..., channel])) <= MAX_UNIFORM_SPREAD
        for channel in range(pixels.shape[2])
    )


def _gray_spread(gray: np.ndarray) -> int:
    """Return the 99.9th minus the 0.1th percentile of uint8 pixels, computed by histogram."""
    below = np.cumsum(cv2.calcHist([gray], [0], None, [256], [0, 256]).ravel(), dtype=np.float64)
    low, high = np.searchsorted(below, [0.001 * gray.size, 0.999 * gray.size])
    return int(high - low)


def read_pixel_spacing(path: Path) -> tuple[float, float] | None:
    """Return the distance of rows and of columns in mm from a DICOM's header; None without one.

    Raises:
        ManifestError: as `read_image`.
    """
    if not is_dicom(path, None):
        return None
    from datamodules.formats.dicom import read_dicom_spacing

    return read_dicom_spacing(path)


def read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an opened image, 1 (as stored) to 8; 1 of a decoded TIFF."""
    try:
        orientation = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF data raise anything; viewers ignore them too
        return 1
    return orientation if orientation in TURNS else 1


def turn_as_shown(pixels: np.ndarray, image: Image.Image) -> np.ndarray:
    """Return the pixels `H x W ...` of a decoded image in the orientation that viewers show."""
    orientation = read_orientation(image)
    return pixels if orientation == 1 else np.ascontiguousarray(TURNS[orientation](pixels))


def bit_depth(image: Image.Image, data: bytes) -> int:
    """Return the bits per color and pixel from the file's header."""
    if image.format == "PNG":
        return data[24]
    return int(np.max(getattr(image, "tag_v2", {}).get(BITS_TAG, 8)))


def _check_whole(path: Path, data: bytes) -> None:
    """Refuse a PNG whose pixels are damaged, which Pillow would show in part."""
    if damage := find_png_damage(data):
        raise ManifestError(
            f"{path} cannot be decoded (damaged PNG: {damage}); replace the file or take it out of"
            " the data set"
        )


def _load(path: Path, image: Image.Image) -> None:
    try:
        image.load()
    except Exception as error:  # damaged pixels make Pillow raise anything, also TypeError
        raise ManifestError(
            f"{path} cannot be decoded ({error}); replace the file or take it out of the data set"
        ) from error


def _fits_only_stored(shown: Size, annotated: Size | None) -> bool:
    return annotated is not None and annotated != shown and annotated == shown[::-1]


def _short_reason(error: Exception) -> str:
    return (
        "unknown format" if isinstance(error, UnidentifiedImageError) else str(error).split(" '")[0]
    )


def _to_source(path: Path, image: Image.Image, channels: int) -> SourceImage:
    """Convert a decoded image to levels, `H x W x channels`."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _gray_source(path, image, channels)
    transparent = False
    if image.has_transparency_data:
        image, transparent = _composite_on_black(image)
    if image.mode == "LAB":  # Pillow's own conversion exists only for some of its versions
        image = ImageCms.applyTransform(image, _lab_to_rgb())  # type: ignore[assignment]
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    pixels = pixels[..., None] if channels == 1 else pixels
    return SourceImage(pixels, EIGHT_BITS, transparent=transparent)


def _gray_source(path: Path, image: Image.Image, channels: int) -> SourceImage:
    """Return a gray image of 16 or 32 bits or of floats."""
    values = np.asarray(image)
    tags: Any = getattr(image, "tag_v2", {})
    if image.mode == "F" and (lost := int(np.count_nonzero(~np.isfinite(values)))):
        fix = "write finite numbers there, or take the file out of the data set"
        raise ContentError(
            f"{path} holds {lost} pixel{'s' * (lost > 1)} that {'are' if lost > 1 else 'is'}"
            f" NaN or infinite; {fix}"
        )
    if image.mode == "I" and tags.get(BITS_TAG) == (32,) and tags.get(339, (1,)) == (1,):
        values = values.astype(np.int32).view(np.uint32)  # Pillow takes these for signed numbers
    clear = image.info.get("transparency")  # of a PNG: the value that shows nothing
    padding = values == clear if isinstance(clear, int) else None
    levels, meaning = encode_levels(values, padding, inverted=tags.get(PHOTOMETRIC_TAG) == 0)
    return SourceImage(
        levels[..., None].repeat(channels, 2),
        meaning,
        transparent=padding is not None and bool(padding.any()),
    )


def _deep_color_source(path: Path, image: Image.Image, channels: int, data: bytes) -> SourceImage:
    """Return a color image of 16 bits, of which Pillow would keep only the upper 8."""
    values = decode_deep_color(path, image, data, "export it as an 8-bit image")
    padding = None
    if values.shape[2] == 4:
        alpha, values = values[..., 3:], values[..., :3]
        opacity = alpha / np.iinfo(values.dtype).max
        padding = (alpha == 0).repeat(3, 2)
        values = np.rint(values * opacity).astype(values.dtype)
        transparent = bool((opacity < 1).any())
    else:
        transparent = False
    if channels == 1:
        values = cv2.cvtColor(np.ascontiguousarray(values), cv2.COLOR_BGR2GRAY)[..., None]
        padding = None if padding is None else padding[..., :1]
    else:
        values = values[..., ::-1]
    return SourceImage(*encode_levels(values, padding), transparent=transparent)


def decode_deep_color(path: Path, image: Image.Image, data: bytes, fix: str) -> np.ndarray:
    """Decode a color image of more than 8 bits as `H x W x 3` or `4`, blue first.

    Args:
        path: The file.
        image: The same image, opened by Pillow.
        data: The file's bytes.
        fix: End of the message that refuses an image that OpenCV cannot decode.
    """
    deep = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if deep is None or deep.ndim != 3 or getattr(image, "n_frames", 1) > 1:
        raise ContentError(
            f"{path} is a color image of {bit_depth(image, data)} bits, which cannot be read; {fix}"
        )
    return deep


def _composite_on_black(image: Image.Image) -> tuple[Image.Image, bool]:
    """Place an image with alpha on black; opaque alpha is dropped.

    Returns:
        An image without alpha, and True if any pixel was transparent.
    """
    colored = image.convert("RGBA")
    lowest, _ = colored.getchannel("A").getextrema()  # type: ignore[misc]
    opaque = colored.convert("RGB")
    if lowest == 255:
        return opaque, False
    black = Image.new("RGB", image.size)
    black.paste(opaque, mask=colored.getchannel("A"))
    return black, True


@lru_cache(maxsize=1)
def _lab_to_rgb() -> ImageCms.ImageCmsTransform:
    profiles = (ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"))
    return ImageCms.buildTransform(*profiles, "LAB", "RGB")
