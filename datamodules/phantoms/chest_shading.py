"""Shading and softening of the layers of phantom radiographs."""

import cv2
import numpy as np


def soften(layer: np.ndarray, sigma: float) -> np.ndarray:
    """Blur a layer with a Gaussian; a wide one on a coarser grid, where it costs less.

    Args:
        layer: float32 `height x width`.
        sigma: In pixels; below 0.3 the layer itself comes back.

    Returns:
        float32 `height x width`.
    """
    if sigma < 0.3:
        return layer
    step = max(1, int(sigma / 2))
    coarse = (
        cv2.resize(
            layer,
            (-(-layer.shape[1] // step), -(-layer.shape[0] // step)),
            interpolation=cv2.INTER_AREA,
        )
        if step > 1
        else layer
    )
    soft = cv2.GaussianBlur(coarse, (0, 0), sigma / step, borderType=cv2.BORDER_REPLICATE)
    return cv2.resize(soft, layer.shape[::-1], interpolation=cv2.INTER_LINEAR) if step > 1 else soft


def ball(distance: np.ndarray) -> np.ndarray:
    """Return the thickness of an ellipsoid, 1 in its middle and 0 from its border on.

    Args:
        distance: Float of any shape, from the middle, 1 at the border.
    """
    return np.sqrt(np.clip(1 - distance * distance, 0, None))


def inside(distance: np.ndarray, softness: float) -> np.ndarray:
    """Return 1 inside a border and 0 outside, with a transition over about `softness`.

    Args:
        distance: Float of any shape, 1 at the border.
        softness: In the unit of `distance`.
    """
    return 1 / (1 + np.exp(np.clip((distance - 1) * (3 / softness), -30, 30)))
