"""Cases shown on report pages: images, their panes, class chips and orders."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import cv2
import numpy as np

SIDE = 224  # pixels of one pane


@dataclass(frozen=True)
class ClassTag:
    """A color (empty for none) and the title that it stands for."""

    title: str
    color: str


@dataclass(frozen=True)
class Case:
    """One image of the page.

    Attributes:
        kind: Reason why it was chosen.
        id: Identifier of the image.
        caption: The text below it.
        panes: Title -> data URL.
        chips: Its true and predicted classes.
        channels: Numbers of the classes whose maps are kept.
        maps: Number of a class -> its byte map and true mask, as `encoding.encode_mask` packs them.
        size: Height and width of the maps in pixels.
        gamma: Display gamma of the panes; 1 shows the gray values as they are.
    """

    kind: str
    id: str
    caption: str
    panes: dict[str, str] = field(default_factory=dict)
    chips: tuple[ClassTag, ...] = ()
    channels: tuple[int, ...] = ()
    maps: Mapping[int, str] = field(default_factory=dict)
    size: tuple[int, int] = (0, 0)
    gamma: float = 1.0


class Ranking(NamedTuple):
    """All images of a split, sorted by a criterion.

    Attributes:
        images: Their indices.
        counted: Number of images, from the first, to which the criterion applies.
    """

    images: np.ndarray
    counted: int


def choose_cases(orders: Mapping[str, Ranking], number: int) -> list[tuple[str, int]]:
    """Return (order name, image) of the first `number` images of each order, no image twice."""
    found: dict[int, str] = {}
    for kind, order in orders.items():
        for i in order.images[: min(number, order.counted)].tolist():
            found.setdefault(i, kind)
    return [(kind, i) for i, kind in found.items()]


def round_robin(rows: Mapping[str, Sequence[Case]], number: int) -> list[Case]:
    """Take up to `number` cases, one of each row in turn, no image twice."""
    found: dict[str, Case] = {}
    for rank in range(max(map(len, rows.values()), default=0)):
        for cases in rows.values():
            if rank < len(cases) and len(found) < number:
                found.setdefault(cases[rank].id, cases[rank])
    return list(found.values())


def indices_of(ids: np.ndarray, names: Iterable[str]) -> list[int]:
    """Return the indices of the named images; skip names that are missing."""
    place = {id: i for i, id in enumerate(ids.tolist())}
    return [place[name] for name in names if name in place]


def enlarge(pixels: np.ndarray, mode: int = cv2.INTER_LINEAR, side: int = SIDE) -> np.ndarray:
    """Resize an image so that its longest side has `side` pixels."""
    scale = side / max(pixels.shape[:2])
    return cv2.resize(
        pixels, None, fx=scale, fy=scale, interpolation=mode if scale > 1 else cv2.INTER_AREA
    )


DARK_PERCENTILE, DARK_GRAY = 95, 100  # an image is dark if that percentile is below that gray
DISPLAY_GAMMA = 0.5


def visible_channels(pixels: np.ndarray) -> np.ndarray:
    """Return the channels of an image `C x H x W` that pages show: gray, RGB, else the first."""
    return pixels if len(pixels) in (1, 3) else pixels[:1]


def display_gamma(pixels: np.ndarray) -> float:
    """Return the gamma that shows an image of gray values 0 to 255: `DISPLAY_GAMMA` if dark, or 1.

    Bone scans are dark: all but a few hot spots lie in the lowest tenth of the gray values.
    """
    return DISPLAY_GAMMA if np.percentile(pixels, DARK_PERCENTILE) < DARK_GRAY else 1.0


def apply_gamma(pixels: np.ndarray, gamma: float) -> np.ndarray:
    """Raise uint8 gray values, as fractions of 255, to the power of `gamma`."""
    if gamma == 1:
        return pixels
    table = (255 * (np.arange(256) / 255) ** gamma).round().astype(np.uint8)
    return table[pixels]


def data_url(pixels: np.ndarray, kind: Literal["webp", "jpeg"] = "webp") -> str:
    """Encode BGR pixels as a data URL; JPEG is larger than WebP and four times as fast."""
    quality = {"webp": [cv2.IMWRITE_WEBP_QUALITY, 88], "jpeg": [cv2.IMWRITE_JPEG_QUALITY, 85]}[kind]
    done, encoded = cv2.imencode(f".{kind}", pixels, quality)
    if not done:
        raise RuntimeError(f"OpenCV could not encode a picture as {kind}")
    return f"data:image/{kind};base64," + base64.b64encode(encoded.tobytes()).decode()
