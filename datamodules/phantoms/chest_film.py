"""Film of a phantom chest: beam, detector, processing, and letters in a corner."""

import cv2
import numpy as np

from datamodules.phantoms.chest_canvas import Canvas
from datamodules.phantoms.chest_shading import soften


def beam(canvas: Canvas) -> np.ndarray:
    """Return the exposure's unevenness, 0 outside the collimated field.

    Args:
        canvas: Of the image that is exposed.

    Returns:
        Float `height x width`, about 1 in the field.
    """
    slope = canvas.random.normal(0, 0.004, 2).astype(np.float32)
    field = 1 + slope[0] * canvas.x + slope[1] * canvas.y
    if canvas.random.random() < 0.25:
        low, high = canvas.random.uniform(0, 0.05, 2), 1 - canvas.random.uniform(0, 0.05, 2)
        rows, columns = (
            np.linspace(0, 1, canvas.shape[0])[:, None],
            np.linspace(0, 1, canvas.shape[1]),
        )
        field = field * (
            (rows > low[0]) & (rows < high[0]) & (columns > low[1]) & (columns < high[1])
        )
    return field


def acquire(random: np.random.Generator, absorption: np.ndarray, scale: float) -> np.ndarray:
    """Turn absorption into a film: transmission, scatter, quantum noise, processing, window.

    Args:
        random: Source of everything that varies.
        absorption: Float `height x width`, about 1 where the chest lets little through.
        scale: Pixels per cm.

    Returns:
        uint8 `height x width`.
    """
    dose, hardness = random.uniform(3000, 15000), random.uniform(2.2, 3.2)
    through = np.exp(-hardness * absorption).astype(np.float32)
    through = through + random.uniform(0.05, 0.35) * np.minimum(soften(through, 4 * scale), 0.15)
    through += np.sqrt(through / dose) * random.standard_normal(through.shape, np.float32)
    film = -np.log(np.maximum(soften(through, random.uniform(0.2, 0.6)), 1e-3))
    film = film - random.uniform(0.0, 0.55) * soften(film, random.uniform(2, 5) * scale)
    low, high = np.quantile(film, [random.uniform(0.0, 0.06), random.uniform(0.96, 0.999)])
    grey = np.clip((film - low) / max(high - low, 1e-3), 0, 1) ** random.uniform(0.65, 1.6)
    return np.clip(
        (random.uniform(0, 0.08) + random.uniform(0.8, 0.95) * grey) * 255, 0, 255
    ).astype(np.uint8)


def mark(random: np.random.Generator, image: np.ndarray, text: str | None) -> np.ndarray:
    """Burn letters into a corner.

    Args:
        random: Source of the letters' size and place.
        image: uint8 `height x width`, written to.
        text: The letters; None or an empty text leaves the image as it is.

    Returns:
        `image` itself.
    """
    if not text:
        return image
    height, width = image.shape
    (across, above), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, 2, 4)
    letters: np.ndarray = np.zeros((above + below, across), np.uint8)
    cv2.putText(letters, text, (0, above), cv2.FONT_HERSHEY_DUPLEX, 2, 255, 4, cv2.LINE_AA)
    factor = min(random.uniform(0.06, 0.085) * height / above, 0.26 * width / across)
    letters = cv2.resize(
        letters,
        (max(3, round(across * factor)), max(3, round((above + below) * factor))),
        interpolation=cv2.INTER_AREA,
    )
    rows, columns = letters.shape
    row, column = (
        round(random.uniform(0.02, 0.06) * height),
        round(random.uniform(0.02, 0.06) * width),
    )
    row = row if random.random() < 0.85 else height - row - rows
    column = column if random.random() < 0.5 else width - column - columns
    place = image[row : row + rows, column : column + columns]
    np.maximum(place, letters, out=place)
    return image
