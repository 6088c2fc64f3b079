"""What the pictures of a page share: a case and its panes."""

import base64
from dataclasses import dataclass

import cv2
import numpy as np

SIDE = 224  # pixels of one pane


@dataclass(frozen=True)
class Case:
    """One image of the page.

    Attributes:
        kind: The row of the page it stands in.
        id: The image.
        caption: What is said below it.
        panes: Title -> data URL.
    """

    kind: str
    id: str
    caption: str
    panes: dict[str, str]


def enlarge(pixels: np.ndarray, mode: int = cv2.INTER_LINEAR) -> np.ndarray:
    """To a longest side of SIDE pixels."""
    scale = SIDE / max(pixels.shape[:2])
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=mode if scale > 1 else cv2.INTER_AREA)


def data_url(pixels: np.ndarray) -> str:
    """BGR pixels as a WebP data URL."""
    done, encoded = cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, 88])
    if not done:
        raise RuntimeError("OpenCV could not encode a picture as WebP")
    return "data:image/webp;base64," + base64.b64encode(encoded.tobytes()).decode()
