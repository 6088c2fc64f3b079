"""Gray levels of images deeper than 8 bits, and the window that displays them in 8 bits.

An image of 10 to 16 bits, of 32-bit integers or of floats is kept in 16 bits with a linear map to
its own values. One window `(low, high)` in these values is applied to all images of a data set when
a sample is loaded, so that the same value has the same gray in every image. Channels that are
images of their own, such as MR sequences, have a map and a window each.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

ValueRange = tuple[float, float]  # the values that are displayed black and white
Window = ValueRange | tuple[ValueRange, ...]  # of all channels together, or of each one
N_LEVELS = 65_536
PADDING_LEVEL = 0  # level of pixels that show nothing, which are always displayed black
N_QUANTILES = 400  # numbers that summarize the values of one image
WINDOW_PERCENTILES = (0.5, 99.5)  # of the training images; single bright pixels lie outside
TURNED, KEPT_AS_STORED, TRANSPARENT = 1, 2, 4  # bits of what is noted about an image
MAX_UNIFORM_SPREAD = 2  # gray levels (of 255) that an image without content spans at most


@dataclass(frozen=True)
class LevelMap:
    """Linear map from the stored levels of one image to its values: `offset + scale * level`.

    Attributes:
        offset: Value of level 0; in a deep image level 0 is padding if padding or a free level
            exists.
        scale: Difference of two neighboring levels; negative if a larger level is a smaller value.
        deep: True for levels of 16 bits, which need a window. False for uint8 gray levels, which
            are displayed as they are.
        inverted: True if large values are dark (MONOCHROME1, WhiteIsZero).
    """

    offset: float = 0.0
    scale: float = 1.0
    deep: bool = False
    inverted: bool = False

    def values(self, levels: np.ndarray) -> np.ndarray:
        """Return the values of levels, float64 of the same shape."""
        return self.offset + self.scale * levels.astype(np.float64)

    def to_uint8(self, levels: np.ndarray, window: Window | None) -> np.ndarray:
        """Convert levels to displayed gray, uint8 of the same shape.

        Args:
            levels: uint8 or uint16; those of an image that is not deep are gray levels.
            window: Values that are displayed black and white; None for the lowest and highest value
                of this image.
        """
        if not self.deep:
            return levels.astype(np.uint8, copy=False)
        low, high = range_of_channel(window, 0) or self.value_range(levels)
        gray = self.values(np.arange(N_LEVELS))
        gray = ((gray - low) / (high - low)).clip(0, 1) * 255
        shown = np.rint(255 - gray if self.inverted else gray).astype(np.uint8)
        shown[PADDING_LEVEL] = 0
        return shown[levels]

    def value_range(self, levels: np.ndarray) -> ValueRange:
        """Return the lowest and the highest value of an image without its padding."""
        inside = levels[levels != PADDING_LEVEL]
        ends = inside if inside.size else levels
        first, last = self.values(np.array([ends.min(), ends.max()])).tolist()
        return nonempty_window(min(first, last), max(first, last))


@dataclass(frozen=True)
class ChannelLevelMaps:
    """Maps of an image whose channels are images of their own.

    Attributes:
        maps: Map of each channel, all of 16 bits.
    """

    maps: tuple[LevelMap, ...]
    deep = True

    def to_uint8(self, levels: np.ndarray, window: Window | None) -> np.ndarray:
        """Convert levels `H x W x C` to displayed gray; see `LevelMap.to_uint8`."""
        shown = [
            each.to_uint8(levels[..., c], range_of_channel(window, c))
            for c, each in enumerate(self.maps)
        ]
        return np.stack(shown, axis=-1)


EIGHT_BITS = LevelMap()
LEVEL_MAP_DTYPE = np.dtype(
    [("offset", "<f8"), ("scale", "<f8"), ("deep", "?"), ("inverted", "?")]
)  # one element is one `LevelMap`


def range_of_channel(window: Window | None, channel: int) -> ValueRange | None:
    """Return the values that one channel displays black and white."""
    found = window[channel] if window and isinstance(window[0], tuple) else window
    return found  # type: ignore[return-value]


def format_window(window: Window) -> str:
    """Format a window as a user writes it, one per channel if there are several."""
    if isinstance(window[0], tuple):
        return f"[{','.join(format_window(each) for each in window)}]"  # type: ignore[arg-type]
    return f"[{window[0]:g},{window[1]:g}]"


def nonempty_window(low: float, high: float) -> ValueRange:
    """Return a window whose ends differ, also for images of one value, which become black."""
    return (low, high) if high > low else (low, low + 1.0)


def encode_levels(
    values: np.ndarray,
    padding: np.ndarray | None = None,
    slope: float = 1.0,
    intercept: float = 0.0,
    inverted: bool = False,
) -> tuple[np.ndarray, LevelMap]:
    """Convert the stored values of an image to levels of 16 bits.

    The conversion is exact for integers that span at most 65,536 values; other integers and floats
    are divided into 65,535 steps of their own range.

    Args:
        values: Finite numbers, `H x W` or `H x W x C`.
        padding: True for pixels that show nothing, in the same shape, or None.
        slope: With `intercept`, the map from stored values to the values of the window:
            `slope * stored + intercept`.
        intercept: See `slope`.
        inverted: True if large values are dark.

    Returns:
        The levels, uint16 in the shape of `values`, and their map.
    """
    inside = values if padding is None or padding.all() else values[~padding]
    low, high = inside.min().item(), inside.max().item()
    if np.issubdtype(values.dtype, np.integer) and high - low < N_LEVELS:
        first, step = max(low - 1, high - (N_LEVELS - 1)), 1.0
        wide = values.astype(np.int32 if values.dtype.itemsize <= 2 else np.int64)
        levels = (wide - first).clip(0, N_LEVELS - 1).astype(np.uint16)
    else:
        step = (float(high) - float(low)) / (N_LEVELS - 2) or 1.0
        first = float(low) - step
        levels = np.rint((values.astype(np.float64) - first) / step)
        levels = levels.clip(1, N_LEVELS - 1).astype(np.uint16)
    if padding is not None and padding.any():
        levels = np.where(padding, PADDING_LEVEL, np.maximum(levels, 1)).astype(np.uint16)
    return levels, LevelMap(slope * float(first) + intercept, slope * step, True, inverted)


@dataclass(frozen=True)
class SourceImage:
    """One image file as it is stored, oriented and cropped, but not windowed.

    Attributes:
        pixels: uint8 gray levels, or levels of 16 bits, `H x W x C`.
        levels: Meaning of the levels.
        turned: True if the image was turned by its EXIF orientation.
        kept_as_stored: True if its EXIF orientation was ignored, because the annotation was made on
            the image as it is stored.
        transparent: True if transparent pixels were placed on black.
    """

    pixels: np.ndarray
    levels: LevelMap | ChannelLevelMaps = field(default=EIGHT_BITS)
    turned: bool = False
    kept_as_stored: bool = False
    transparent: bool = False

    @property
    def notes(self) -> int:
        """Bits TURNED, KEPT_AS_STORED and TRANSPARENT."""
        return (
            TURNED * self.turned
            | KEPT_AS_STORED * self.kept_as_stored
            | TRANSPARENT * self.transparent
        )

    def to_uint8(self, window: Window | None) -> np.ndarray:
        """Return the displayed image, uint8 `H x W x C`; see `LevelMap.to_uint8`."""
        return self.levels.to_uint8(self.pixels, window)


def stack_channels(images: Sequence[SourceImage]) -> SourceImage:
    """Join images of one channel and one size into the channels of one image.

    If any is deep, those of 8 bits are taken as values from 0 to 255, so that all have a window.
    """
    first = images[0]
    pixels, levels = [image.pixels for image in images], first.levels
    if any(image.levels.deep for image in images):
        deep = [
            (image.pixels, image.levels) if image.levels.deep else encode_levels(image.pixels)
            for image in images
        ]
        pixels = [each for each, _ in deep]
        levels = ChannelLevelMaps(tuple(each for _, each in deep))  # type: ignore[misc]
    return replace(
        first,
        pixels=np.concatenate(pixels, axis=2),
        levels=levels,
        turned=any(image.turned for image in images),
        kept_as_stored=any(image.kept_as_stored for image in images),
        transparent=any(image.transparent for image in images),
    )


@dataclass(frozen=True)
class ValueSummary:
    """Quantiles of the values of a deep image, from which the window of a data set follows.

    Attributes:
        quantiles: Ascending values, float64 `N_QUANTILES`, or `C x N_QUANTILES` if each channel has
            a window of its own; each stands for the same number of pixels. NaN for an image that is
            not deep.
        pixels: Number of pixels without padding, or one number per channel; 0 for an image that is
            not deep.
    """

    quantiles: np.ndarray
    pixels: int | np.ndarray


def summarize_values(image: SourceImage) -> ValueSummary:
    """Summarize the values of one image."""
    if isinstance(image.levels, ChannelLevelMaps):
        each = [
            summarize_values(SourceImage(image.pixels[..., c : c + 1], levels))
            for c, levels in enumerate(image.levels.maps)
        ]
        pixels = np.array([one.pixels for one in each])
        return ValueSummary(np.stack([one.quantiles for one in each]), pixels)
    counts = np.zeros(N_LEVELS, np.int64)
    if image.levels.deep:
        counts = np.bincount(image.pixels.ravel(), minlength=N_LEVELS)
        counts[PADDING_LEVEL] = 0
    total = int(counts.sum())
    if not total:
        return ValueSummary(np.full(N_QUANTILES, np.nan), 0)
    wanted = (np.arange(N_QUANTILES) + 0.5) / N_QUANTILES * total
    found = image.levels.values(np.searchsorted(np.cumsum(counts), wanted))
    return ValueSummary(np.sort(found), total)


def common_window(quantiles: np.ndarray, pixels: np.ndarray) -> Window | None:
    """Return the window between the WINDOW_PERCENTILES of the pixels of several images.

    Args:
        quantiles: See `ValueSummary`, `N x N_QUANTILES` or `N x C x N_QUANTILES`.
        pixels: Number of pixels of each image, `N` or `N x C`; images of 0 do not count.

    Returns:
        One window, or one per channel; None if no image counts.
    """
    if quantiles.ndim == 3:
        each = [common_window(quantiles[:, c], pixels[:, c]) for c in range(pixels.shape[1])]
        known = [(0.0, 1.0) if found is None else found for found in each]
        return None if all(found is None for found in each) else tuple(known)  # type: ignore[arg-type]
    used = pixels > 0
    if not used.any():
        return None
    values = quantiles[used].ravel()
    weights = np.repeat(pixels[used].astype(np.float64), quantiles.shape[1])
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order])
    low, high = np.searchsorted(below, np.array(WINDOW_PERCENTILES) / 100 * below[-1])
    return nonempty_window(float(values[order[low]]), float(values[order[high]]))


def is_blank_in_window(quantiles: np.ndarray, window: Window) -> np.ndarray:
    """Return True for deep images that show nearly one gray value in a window, bool `N`.

    The central 99.75 % of their pixels then span at most MAX_UNIFORM_SPREAD gray levels, in each
    channel that has a window of its own.
    """
    if quantiles.ndim == 3:
        each = [
            is_blank_in_window(quantiles[:, c], range_of_channel(window, c) or (0.0, 1.0))
            for c in range(quantiles.shape[1])
        ]
        return np.all(each, axis=0)
    low, high = range_of_channel(window, 0) or (0.0, 1.0)
    ends = ((quantiles[:, [0, -1]] - low) / (high - low)).clip(0, 1) * 255
    return (ends[:, 1] - ends[:, 0]) <= MAX_UNIFORM_SPREAD  # False for the NaN of 8-bit images
