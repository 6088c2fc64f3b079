"""What the pictures of a page share: a case, its panes, and the chips that name its classes."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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
        kind: The row of the page it stands in.
        id: The image.
        caption: What is said below it.
        panes: Title -> data URL.
        chips: The classes that it shows or is said to show.
    """

    kind: str
    id: str
    caption: str
    panes: dict[str, str] = field(default_factory=dict)
    chips: tuple[Chip, ...] = ()


def in_turn(rows: Mapping[str, Sequence[Case]], number: int) -> list[Case]:
    """So many cases, one of each row after the other, no image twice."""
    found: dict[str, Case] = {}
    for rank in range(max(map(len, rows.values()), default=0)):
        for cases in rows.values():
            if rank < len(cases) and len(found) < number:
                found.setdefault(cases[rank].id, cases[rank])
    return list(found.values())


def enlarge(pixels: np.ndarray, mode: int = cv2.INTER_LINEAR, side: int = SIDE) -> np.ndarray:
    """To a longest side of so many pixels."""
    scale = side / max(pixels.shape[:2])
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=mode if scale > 1 else cv2.INTER_AREA)


def data_url(pixels: np.ndarray) -> str:
    """BGR pixels as a WebP data URL."""
    done, encoded = cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, 88])
    if not done:
        raise RuntimeError("OpenCV could not encode a picture as WebP")
    return "data:image/webp;base64," + base64.b64encode(encoded.tobytes()).decode()
