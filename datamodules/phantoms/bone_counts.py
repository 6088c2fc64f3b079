"""Expected counts of phantom bone scans as 8-bit images, and the visibility of spots in them."""

from dataclasses import dataclass

import cv2
import numpy as np

ROWS = 1024  # of a real scan; smaller ones look like real ones made smaller
GREYS = 255


@dataclass(frozen=True)
class Visibility:
    """Rule for when a spot counts as seen in one view, and which pixels its mask has.

    It is evaluated on expected counts, before noise, among the pixels of the spot's mask.

    Attributes:
        contrast: Least ratio of the spot's own counts to all others there.
        rose: Least ratio of the spot's own counts to the square root of all others, its
            signal-to-noise ratio. Rose (1948) found that an observer needs about 5.
        greys: Least number of grey levels that the spot's peak adds; hot spots elsewhere may leave
            it fewer.
        share: Share of the spot's own peak above which a pixel belongs to its mask; 0.4 is
            customary for outlining tracer volumes.
    """

    contrast: float = 0.35
    rose: float = 5.0
    greys: float = 4.0
    share: float = 0.4

    def mask(self, spot: np.ndarray, everything: np.ndarray, gain: float) -> np.ndarray | None:
        """Return the spot's mask, bool `height x width`, or None if the spot is not seen.

        Args:
            spot: Its expected counts a pixel, `height x width`.
            everything: Those of the whole scan, the spot among them.
            gain: Grey levels a count, see `gain`.
        """
        inside = spot > self.share * spot.max()
        signal, others = float(spot[inside].sum()), float((everything - spot)[inside].sum())
        seen = (
            signal > self.contrast * others
            and signal > self.rose * np.sqrt(max(others, 1.0))
            and spot.max() * gain >= self.greys
        )
        return inside if seen and inside.any() else None


def gain(expected: np.ndarray) -> float:
    """Return the grey levels per count.

    The hottest pixel is white, but a count of a scan of 1024 rows is at least one level. So do the
    real files: without hot urine they use all 255 levels; with it the body stays dark and the urine
    overflows.

    Args:
        expected: Counts per pixel, `height x width`.
    """
    smaller = (len(expected) / ROWS) ** 2  # a pixel of a smaller scan holds more counts
    peak = float(expected.max()) * smaller
    return smaller * max(1.0, GREYS / (peak + 3.5 * np.sqrt(peak) + 1))


def acquire(random: np.random.Generator, expected: np.ndarray, overflow: bool) -> np.ndarray:
    """Acquire one scan: Poisson counts as grey levels, uint8 `height x width`.

    Args:
        random: Source of the noise.
        expected: Counts a pixel, `height x width`.
        overflow: Whether what is too bright starts again at black, as in some real files, instead
            of staying white.
    """
    levels = np.rint(random.poisson(expected) * gain(expected)).astype(np.int64)
    return (levels % (GREYS + 1) if overflow else np.clip(levels, 0, GREYS)).astype(np.uint8)


def boxes(mask: np.ndarray, margin: int = 1) -> list[tuple[int, int, int, int]]:
    """Return a box (x1, y1, x2, y2) around each connected part of a mask, from top to bottom.

    Corners are pixel edges.

    Args:
        mask: Bool `height x width`.
        margin: Pixels left free around the part, where the image has them.
    """
    height, width = mask.shape
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return sorted(
        (
            (
                max(x - margin, 0),
                max(y - margin, 0),
                min(x + w + margin, width),
                min(y + h + margin, height),
            )
            for x, y, w, h, _ in stats[1:].tolist()
        ),
        key=lambda box: (box[1], box[0]),
    )
