"""Gray levels of images deeper than 8 bits, and the window that displays them in 8 bits.

An image of 10 to 16 bits, of 32-bit integers or of floats is kept in 16 bits with a linear map to
its own values. One window `(low, high)` in these values is applied to all images of a data set when
a sample is loaded, so that the same value has the same gray in every image.
"""

from dataclasses import dataclass, field

import numpy as np

Window = tuple[float, float]  # the values that are displayed black and white
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
        low, high = window or self.value_range(levels)
        gray = self.values(np.arange(N_LEVELS))
        gray = ((gray - low) / (high - low)).clip(0, 1) * 255
        shown = np.rint(255 - gray if self.inverted else gray).astype(np.uint8)
        shown[PADDING_LEVEL] = 0
        return shown[levels]

    def value_range(self, levels: np.ndarray) -> Window:
        """Return the lowest and the highest value of an image without its padding."""
        inside = levels[levels != PADDING_LEVEL]
        ends = inside if inside.size else levels
        first, last = self.values(np.array([ends.min(), ends.max()])).tolist()
        return nonempty_window(min(first, last), max(first, last))


EIGHT_BITS = LevelMap()
LEVEL_MAP_DTYPE = np.dtype(
    [("offset", "<f8"), ("scale", "<f8"), ("deep", "?"), ("inverted", "?")]
)  # one element is one `LevelMap`


def nonempty_window(low: float, high: float) -> Window:
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
    levels: LevelMap = field(default=EIGHT_BITS)
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


@dataclass(frozen=True)
class ValueSummary:
    """Quantiles of the values of a deep image, from which the window of a data set follows.

    Attributes:
        quantiles: Ascending values, float64 `N_QUANTILES`; each stands for the same number of
            pixels. NaN for an image that is not deep.
        pixels: Number of pixels without padding; 0 for an image that is not deep.
    """

    quantiles: np.ndarray
    pixels: int


def summarize_values(image: SourceImage) -> ValueSummary:
    """Summarize the values of one image."""
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
        quantiles: See `ValueSummary`, `N x N_QUANTILES`.
        pixels: Number of pixels of each image, `N`; images of 0 do not count.

    Returns:
        None if no image counts.
    """
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

    The central 99.75 % of their pixels then span at most MAX_UNIFORM_SPREAD gray levels.
    """
    low, high = window
    ends = ((quantiles[:, [0, -1]] - low) / (high - low)).clip(0, 1) * 255
    return (ends[:, 1] - ends[:, 0]) <= MAX_UNIFORM_SPREAD  # False for the NaN of 8-bit images
