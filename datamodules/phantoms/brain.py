"""Axial brain MRI slices, hard enough that brightness alone does not find the tumour."""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter


@dataclass(frozen=True)
class Slice:
    """A drawn slice.

    Attributes:
        image: uint8 `size x size`.
        mask: 0/1 uint8 `size x size`, the tumour without its oedema.
    """

    image: np.ndarray
    mask: np.ndarray


def draw_slice(
    random: np.random.Generator, size: int, tumour: bool = True, parts: int = 1
) -> Slice:
    """Draw one slice.

    It shows skull, scalp fat, grey and white matter, ventricles, vessels and tumour, with a bias
    field and Rician noise.

    Args:
        random: Source of everything that varies.
        size: Side in pixels.
        tumour: Whether there is one.
        parts: Number of separate lesions.
    """
    y, x = _axes(size)
    x, y = _head_pose(random, x, y)
    skull = np.hypot(x / 0.78, y / 0.92)
    wobble = 0.035 * _smooth_noise(random, size, size / 10)
    brain = (skull + wobble) < 0.86
    signal = _tissue(random, size, x, y, skull, wobble, brain)
    signal = _confounders(random, size, x, y, brain, signal)
    mask = np.zeros((size, size), bool)
    for _ in range(parts if tumour else 0):
        mask |= _add_tumour(random, size, brain & ~mask, signal)
    return Slice(_acquire(random, size, signal), mask.astype(np.uint8))


def _axes(size: int) -> tuple[np.ndarray, np.ndarray]:
    line = np.linspace(-1, 1, size, dtype=np.float32)
    y, x = np.meshgrid(line, line, indexing="ij")
    return y, x


def _head_pose(
    random: np.random.Generator, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    angle, zoom = random.normal(0, 0.12), random.uniform(0.95, 1.2)
    x, y = x - random.normal(0, 0.03), y - random.normal(0, 0.03)
    return zoom * (np.cos(angle) * x - np.sin(angle) * y), zoom * (
        np.sin(angle) * x + np.cos(angle) * y
    )


def _smooth_noise(random: np.random.Generator, size: int, sigma: float) -> np.ndarray:
    field = gaussian_filter(
        random.standard_normal((size, size)).astype(np.float32), sigma, mode="wrap"
    )
    return (field - field.mean()) / max(float(field.std()), 1e-6)


def _tissue(
    random: np.random.Generator,
    size: int,
    x: np.ndarray,
    y: np.ndarray,
    skull: np.ndarray,
    wobble: np.ndarray,
    brain: np.ndarray,
) -> np.ndarray:
    white_level, grey_level = random.permutation(
        [random.uniform(0.5, 0.62), random.uniform(0.36, 0.46)]
    )  # T1-like or T2-like
    fluid = random.choice([0.12, 0.8], p=[0.7, 0.3])
    folds = 0.13 * _smooth_noise(random, size, size / 38)
    cortex = (skull + wobble + folds) > 0.70
    signal = np.where(brain, np.where(cortex, grey_level, white_level), 0.0).astype(np.float32)
    deep = np.hypot((np.abs(x) - 0.17) / 0.09, (y + 0.02) / 0.16) < 1
    signal[brain & deep] = grey_level
    width, length = random.uniform(0.045, 0.09), random.uniform(0.2, 0.34)
    bend = 0.10 + 0.10 * (y / 0.3) ** 2
    signal[brain & (np.hypot((np.abs(x) - bend) / width, y / length) < 1)] = fluid
    signal[brain & (np.abs(x) < 0.012) & (np.abs(y) > 0.3)] = fluid
    signal[(skull + wobble > 0.86) & (skull < 0.90)] = fluid
    signal[(skull >= 0.90) & (skull < 0.97)] = 0.06
    signal[(skull >= 0.97) & (skull < 1.06)] = random.uniform(0.7, 0.98)  # scalp fat
    return np.where(brain, signal + 0.025 * _smooth_noise(random, size, size / 60), signal)


def _confounders(
    random: np.random.Generator,
    size: int,
    x: np.ndarray,
    y: np.ndarray,
    brain: np.ndarray,
    signal: np.ndarray,
) -> np.ndarray:
    """Add bright structures that are no tumour: vessels, sagittal sinus, choroid plexus, eyes."""
    inside = np.argwhere(brain)
    for row, column in inside[random.integers(len(inside), size=random.integers(3, 9))]:
        radius = max(1, round(size * random.uniform(0.004, 0.014)))
        end = (
            int(column + random.normal(0, size * 0.04)),
            int(row + random.normal(0, size * 0.04)),
        )
        cv2.line(signal, (int(column), int(row)), end, float(random.uniform(0.7, 1.0)), radius)
    if random.random() < 0.5:
        signal[np.hypot(x / 0.05, (y - 0.80) / 0.05) < 1] = random.uniform(0.8, 1.0)
    if random.random() < 0.5:
        signal[np.hypot((np.abs(x) - 0.13) / 0.03, (y - 0.12) / 0.06) < 1] = random.uniform(
            0.7, 0.95
        )
    if random.random() < 0.35:
        for side in (-1, 1):
            eye = np.hypot((x - side * 0.3) / 0.13, (y + 0.80) / 0.12)
            signal[eye < 1] = random.uniform(0.55, 0.9)
    return signal


def _add_tumour(
    random: np.random.Generator, size: int, allowed: np.ndarray, signal: np.ndarray
) -> np.ndarray:
    """Draw one tumour into `signal` and return its mask, which leaves out the oedema around it."""
    inner = cv2.erode(allowed.astype(np.uint8), np.ones((size // 16, size // 16), np.uint8))
    places = np.argwhere(inner)
    row, column = places[random.integers(len(places))]
    radius = size * np.clip(random.lognormal(np.log(0.085), 0.4), 0.03, 0.2)
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    angle, stretch = random.uniform(0, np.pi), random.uniform(1.0, 1.7)
    u = np.cos(angle) * (columns - column) + np.sin(angle) * (rows - row)
    v = -np.sin(angle) * (columns - column) + np.cos(angle) * (rows - row)
    distance = np.hypot(u / stretch**0.5, v * stretch**0.5) / radius + 0.13 * _smooth_noise(
        random, size, max(2.0, radius / 3)
    )
    lesion = (distance < 1) & allowed
    around = float(np.median(signal[lesion])) if lesion.any() else 0.5
    brightness = around + random.choice([1, -1], p=[0.75, 0.25]) * random.uniform(0.12, 0.38)
    oedema = np.clip(1.9 - distance, 0, 0.9) * (allowed & ~lesion) * random.uniform(0, 0.14)
    signal += oedema.astype(np.float32) * np.sign(brightness - around)
    soft = gaussian_filter(lesion.astype(np.float32), size / 200)
    texture = brightness + 0.05 * _smooth_noise(random, size, max(1.5, radius / 4))
    if random.random() < 0.4:  # a dark, necrotic centre inside an enhancing rim
        texture = np.where(
            distance < random.uniform(0.4, 0.7), around - random.uniform(0.1, 0.25), texture
        )
    signal += soft * (texture - signal)
    return lesion


def _acquire(random: np.random.Generator, size: int, signal: np.ndarray) -> np.ndarray:
    """Apply coil sensitivity, blur, Rician noise and a window."""
    bias = np.exp(0.16 * _smooth_noise(random, size, size / 3))
    clean = gaussian_filter(np.clip(signal, 0, None) * bias, size / 400)
    sigma = random.uniform(0.015, 0.045)
    noisy = np.hypot(
        clean + random.normal(0, sigma, clean.shape), random.normal(0, sigma, clean.shape)
    )
    low, high = 0.0, np.quantile(noisy, random.uniform(0.985, 0.998))
    return np.clip((noisy - low) / (high - low) * 255, 0, 255).astype(np.uint8)
