"""Draw masks over images, and encode the logit maps to which the slider applies a threshold."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from evaluation.logit_bins import quantize_logits
from reporting import encoding
from reporting.cases import SIDE

if TYPE_CHECKING:
    from torch import Tensor

    from datamodules.loading.dataset import Sample
    from evaluation.rule_modules import DecisionRule

Color = tuple[int, int, int]  # BGR

# Bright enough for a radiograph and distinct from each other (after S. Trubetskoy, "20 simple,
# distinct colors", the dark ones made lighter).
CLASS_COLORS = (
    *("#e6194b", "#3cb44b", "#ffe119", "#4a78ff", "#ff8c1a", "#b24cff", "#42d4f4", "#f032e6"),
    *("#bfef45", "#fabed4", "#1fa8a0", "#c07a3a", "#dcbeff", "#fffac8", "#aaffc3", "#ffb38a"),
)


def class_color(channel: int) -> str:
    """Return the color of a class as hexadecimal code; colors repeat after sixteen classes."""
    return CLASS_COLORS[channel % len(CLASS_COLORS)]


def fill_masks(
    picture: np.ndarray, masks: Sequence[np.ndarray], opacity: float = 0.45
) -> np.ndarray:
    """Fill each mask with the color of its class, large ones below small ones.

    Args:
        picture: BGR `H x W x 3`.
        masks: `H x W`, one a class.
        opacity: Opacity of the color.
    """
    for c in _sorted_by_size(masks):
        picture = outline_mask(
            fill_mask(picture, masks[c], _to_bgr(c), opacity), masks[c], _to_bgr(c)
        )
    return picture


def outline_masks(picture: np.ndarray, masks: Sequence[np.ndarray], width: int = 2) -> np.ndarray:
    """Outline each mask in the color of its class, with a dark rim to set it off from fills."""
    for c in _sorted_by_size(masks):
        picture = outline_mask(
            outline_mask(picture, masks[c], (0, 0, 0), width + 2), masks[c], _to_bgr(c), width
        )
    return picture


def _sorted_by_size(masks: Sequence[np.ndarray]) -> list[int]:
    sizes = [int((mask > 0).sum()) for mask in masks]
    return [c for c in sorted(range(len(masks)), key=lambda c: -sizes[c]) if sizes[c]]


def _to_bgr(channel: int) -> Color:
    red, green, blue = bytes.fromhex(class_color(channel)[1:])
    return blue, green, red


def fill_mask(
    picture: np.ndarray, mask: np.ndarray, color: Color, opacity: float = 0.28
) -> np.ndarray:
    """Fill one mask."""
    found = picture.copy()
    inside = mask > 0
    found[inside] = ((1 - opacity) * found[inside] + opacity * np.array(color)).astype(np.uint8)
    return found


def outline_mask(picture: np.ndarray, mask: np.ndarray, color: Color, width: int = 1) -> np.ndarray:
    """Draw the outer outlines of one mask, `width` pixels thick."""
    contours, _ = cv2.findContours(
        (mask > 0).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    return cv2.drawContours(picture.copy(), contours, -1, color, width, cv2.LINE_AA)


def encode_logit_maps(
    batch: "Sample",
    i: int,
    logits: "Tensor",
    channels: Sequence[int],
    side: int = SIDE,
    rule: "DecisionRule | None" = None,
) -> tuple[dict[int, str], tuple[int, int]]:
    """Return class -> packed byte map and true mask, and their height and width.

    They are never larger than the network saw the image. Ignored pixels are in no mask.

    Args:
        batch: Holds its image and mask.
        i: Index in the batch.
        logits: `1 x classes x S x S` on the network's canvas.
        channels: Classes to return.
        side: Longest side of a map in pixels.
        rule: Mask rule whose bytes are returned; None for those of the logits.
    """
    _, _, height, width = content = batch["content"][i]
    scale = min(1.0, side / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))

    def smaller(plane: np.ndarray) -> np.ndarray:
        """Shrink a plane to the size of the maps."""
        return (
            plane
            if size == plane.shape
            else cv2.resize(plane, size[::-1], interpolation=cv2.INTER_AREA)
        )

    to_bytes = getattr(rule, "to_bytes", quantize_logits)
    # every class, because those of exclusive classes depend on each other
    planes = [smaller(plane) for plane in logits[content.slices][0].float().numpy()]
    bytes_ = to_bytes(logits.new_tensor(np.array(planes))[None])[0].numpy()
    counted = np.ones(size, bool)
    if "ignored" in batch:
        counted = smaller(batch["ignored"][i][content.slices][0].float().numpy()) < 0.5
    found = {}
    for channel in channels:
        truth = smaller(batch["mask"][i][content.slices][channel].float().numpy()) >= 0.5
        found[channel] = encoding.encode_mask(bytes_[channel] * counted, truth & counted)
    return found, size
