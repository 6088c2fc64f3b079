"""What the pictures of a page share: a case, its panes, the chips that name its classes, and the orders in which cases can stand."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import cv2
import numpy as np

SIDE = 224  # pixels of one pane


@dataclass(frozen=True)
class Chip:
    """A colour, or none, and what it stands for."""

    title: str
    colour: str


@dataclass(frozen=True)
class Case:
    """One image of the page.

    Attributes:
        kind: Why it was chosen.
        id: The image.
        caption: What is said below it.
        panes: Title -> data URL.
        chips: The classes that it shows or is said to show.
        channels: The same by number, where more than a few words are kept of them.
        maps: Class by number -> its byte map and true mask, as `packed.maps` has them.
        size: Height and width of the maps in pixels.
    """

    kind: str
    id: str
    caption: str
    panes: dict[str, str] = field(default_factory=dict)
    chips: tuple[Chip, ...] = ()
    channels: tuple[int, ...] = ()
    maps: Mapping[int, str] = field(default_factory=dict)
    size: tuple[int, int] = (0, 0)


class Order(NamedTuple):
    """All images of a split, those first that a criterion puts first.

    Attributes:
        images: Their numbers.
        counted: How many of them the criterion means at all.
    """

    images: np.ndarray
    counted: int


def chosen(orders: Mapping[str, Order], number: int) -> list[tuple[str, int]]:
    """The first so many images of each order with its name, one order after the other, no image twice."""
    found: dict[int, str] = {}
    for kind, order in orders.items():
        for i in order.images[: min(number, order.counted)].tolist():
            found.setdefault(i, kind)
    return [(kind, i) for i, kind in found.items()]


def in_turn(rows: Mapping[str, Sequence[Case]], number: int) -> list[Case]:
    """So many cases, one of each row after the other, no image twice."""
    found: dict[str, Case] = {}
    for rank in range(max(map(len, rows.values()), default=0)):
        for cases in rows.values():
            if rank < len(cases) and len(found) < number:
                found.setdefault(cases[rank].id, cases[rank])
    return list(found.values())


def placed(ids: np.ndarray, names: Iterable[str]) -> list[int]:
    """Where the named images stand; names that are not there are passed over."""
    place = {id: i for i, id in enumerate(ids.tolist())}
    return [place[name] for name in names if name in place]


def enlarge(pixels: np.ndarray, mode: int = cv2.INTER_LINEAR, side: int = SIDE) -> np.ndarray:
    """To a longest side of so many pixels."""
    scale = side / max(pixels.shape[:2])
    return cv2.resize(
        pixels, None, fx=scale, fy=scale, interpolation=mode if scale > 1 else cv2.INTER_AREA
    )


def data_url(pixels: np.ndarray, kind: Literal["webp", "jpeg"] = "webp") -> str:
    """BGR pixels as a data URL; JPEG is larger and four times as fast."""
    quality = {"webp": [cv2.IMWRITE_WEBP_QUALITY, 88], "jpeg": [cv2.IMWRITE_JPEG_QUALITY, 85]}[kind]
    done, encoded = cv2.imencode(f".{kind}", pixels, quality)
    if not done:
        raise RuntimeError(f"OpenCV could not encode a picture as {kind}")
    return f"data:image/{kind};base64," + base64.b64encode(encoded.tobytes()).decode()
