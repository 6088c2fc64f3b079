"""Brain-MRI phantoms with tumors in the Roboflow COCO layout."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from datamodules.arguments import NonNegativeInt, PositiveInt, validated
from datamodules.formats.image_io import read_image
from datamodules.phantoms.folder import write_once, write_picture


@dataclass(frozen=True)
class BrainSlice:
    """Synthetic slice with its mask.

    Attributes:
        image: uint8 `size x size`.
        mask: 0/1 uint8 `size x size`, the tumor without its edema.
    """

    image: np.ndarray
    mask: np.ndarray


def draw_slice(
    random: np.random.Generator, size: int, tumor: bool = True, parts: int = 1
) -> BrainSlice:
    """Draw one slice.

    It shows skull, scalp fat, gray and white matter, ventricles, vessels and tumor, with a bias
    field and Rician noise.

    Args:
        random: Source of everything random.
        size: Side in pixels.
        tumor: True to draw a tumor.
        parts: Number of separate lesions.
    """
    y, x = _axes(size)
    x, y = _head_pose(random, x, y)
    skull = np.hypot(x / 0.78, y / 0.92)
    wobble = 0.035 * _smooth_noise(random, size, size / 10)
    brain = (skull + wobble) < 0.86
    signal = _draw_tissue(random, size, x, y, skull, wobble, brain)
    signal = _draw_confounders(random, size, x, y, brain, signal)
    mask = np.zeros((size, size), bool)
    for _ in range(parts if tumor else 0):
        mask |= _add_tumor(random, size, brain & ~mask, signal)
    return BrainSlice(_acquire(random, size, signal), mask.astype(np.uint8))


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


def _draw_tissue(
    random: np.random.Generator,
    size: int,
    x: np.ndarray,
    y: np.ndarray,
    skull: np.ndarray,
    wobble: np.ndarray,
    brain: np.ndarray,
) -> np.ndarray:
    white_level, gray_level = random.permutation(
        [random.uniform(0.5, 0.62), random.uniform(0.36, 0.46)]
    )  # T1-like or T2-like
    fluid = random.choice([0.12, 0.8], p=[0.7, 0.3])
    folds = 0.13 * _smooth_noise(random, size, size / 38)
    cortex = (skull + wobble + folds) > 0.70
    signal = np.where(brain, np.where(cortex, gray_level, white_level), 0.0).astype(np.float32)
    deep = np.hypot((np.abs(x) - 0.17) / 0.09, (y + 0.02) / 0.16) < 1
    signal[brain & deep] = gray_level
    width, length = random.uniform(0.045, 0.09), random.uniform(0.2, 0.34)
    bend = 0.10 + 0.10 * (y / 0.3) ** 2
    signal[brain & (np.hypot((np.abs(x) - bend) / width, y / length) < 1)] = fluid
    signal[brain & (np.abs(x) < 0.012) & (np.abs(y) > 0.3)] = fluid
    signal[(skull + wobble > 0.86) & (skull < 0.90)] = fluid
    signal[(skull >= 0.90) & (skull < 0.97)] = 0.06
    signal[(skull >= 0.97) & (skull < 1.06)] = random.uniform(0.7, 0.98)  # scalp fat
    return np.where(brain, signal + 0.025 * _smooth_noise(random, size, size / 60), signal)


def _draw_confounders(
    random: np.random.Generator,
    size: int,
    x: np.ndarray,
    y: np.ndarray,
    brain: np.ndarray,
    signal: np.ndarray,
) -> np.ndarray:
    """Add bright structures that are no tumor: vessels, sagittal sinus, choroid plexus, eyes."""
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


def _add_tumor(
    random: np.random.Generator, size: int, allowed: np.ndarray, signal: np.ndarray
) -> np.ndarray:
    """Draw one tumor into `signal` and return its mask, which leaves out the edema around it."""
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
    edema = np.clip(1.9 - distance, 0, 0.9) * (allowed & ~lesion) * random.uniform(0, 0.14)
    signal += edema.astype(np.float32) * np.sign(brightness - around)
    soft = gaussian_filter(lesion.astype(np.float32), size / 200)
    texture = brightness + 0.05 * _smooth_noise(random, size, max(1.5, radius / 4))
    if random.random() < 0.4:  # a dark, necrotic center inside an enhancing rim
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


FOLDERS = ("train", "valid", "test")


@validated
def write(
    root: Path,
    train: PositiveInt = 120,
    valid: PositiveInt = 40,
    test: PositiveInt = 60,
    size: PositiveInt = 192,
    seed: NonNegativeInt = 0,
) -> None:
    """Write `train/ valid/ test/` below `root`, once.

    They have the irregularities of the real export: ids that restart in every split, an unused
    duplicate category, areas of boxes in place of outlines, images without annotations, exact
    duplicate annotations, lesions in two parts, a polygon one pixel outside, and `.rf.` copies of
    an original, one of them in both train and test.

    Args:
        root: Folder to write; it is not changed if it already holds the same phantoms.
        train: Images in train, irregularities not counted.
        valid: Images in valid.
        test: Images in test.
        size: Side of the pictures in pixels.
        seed: Source of everything random.
    """
    numbers = {
        "train": train,
        "valid": valid,
        "test": test,
        "size": size,
        "seed": seed,
        "version": 3,
    }
    with write_once(root, numbers) as folder:
        if folder is not None:
            for number, name in enumerate(FOLDERS):
                _SplitExport(folder / name, np.random.default_rng([seed, number]), size).write(
                    numbers[name]
                )
            _leak_test_original(folder)


class _SplitExport:
    """Export of one split."""

    def __init__(self, folder: Path, random: np.random.Generator, size: int) -> None:
        self.folder, self.random, self.size = folder, random, size
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        folder.mkdir(parents=True)

    def write(self, number: int) -> None:
        """Write `number` images with their annotations, and the irregularities."""
        for index in range(number):
            parts = 2 if index % 20 == 7 else 1
            slice_ = draw_slice(self.random, self.size, parts=parts)
            image = self._add_image(f"p{self.folder.name}{index}", slice_.image)
            self._annotate(image, slice_.mask)
            if index % 25 == 3:
                self.annotations.append(
                    self.annotations[-1] | {"id": len(self.annotations)}
                )  # exact duplicate
            if index % 30 == 11:
                twin = self._add_image(
                    f"p{self.folder.name}{index}", slice_.image
                )  # a copy of one original, encoded again
                self._annotate(twin, slice_.mask)
        for index in range(max(1, number // 12)):
            self._add_image(
                f"u{self.folder.name}{index}", draw_slice(self.random, self.size).image
            )  # an image without annotations
        self._move_point_outside()
        _write_json(self.folder, self.images, self.annotations)

    def _add_image(self, original: str, pixels: np.ndarray) -> dict[str, Any]:
        name = f"{original}_jpg.rf.{self.random.bytes(16).hex()}.jpg"
        write_picture(
            str(self.folder / name),
            pixels,
            [cv2.IMWRITE_JPEG_QUALITY, int(self.random.integers(85, 96))],
        )
        self.images.append(
            {
                "id": len(self.images),
                "license": 1,
                "file_name": name,
                "height": self.size,
                "width": self.size,
            }
        )
        return self.images[-1]

    def _annotate(self, image: dict[str, Any], mask: np.ndarray) -> None:
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_TC89_L1)
        for contour in contours:
            if len(contour) < 3:
                continue
            x, y, width, height = map(float, cv2.boundingRect(contour))
            self.annotations.append(
                {
                    "id": len(self.annotations),
                    "image_id": image["id"],
                    "category_id": 1,
                    "bbox": [x, y, width, height],
                    "area": width * height,
                    "segmentation": [[float(value) for value in contour.ravel()]],
                    "iscrowd": 0,
                }
            )

    def _move_point_outside(self) -> None:
        """Move the leftmost point of the first lesion a pixel outside the image."""
        polygon = self.annotations[0]["segmentation"][0]
        leftmost = min(range(0, len(polygon), 2), key=lambda i: polygon[i])
        polygon[leftmost] = -1.0


def _write_json(folder: Path, images: list, annotations: list) -> None:
    categories = [
        {"id": 0, "name": "Tumor", "supercategory": "none"},
        {"id": 1, "name": "Tumor", "supercategory": "Tumor"},
    ]
    content = {
        "info": {"description": "phantoms"},
        "licenses": [],
        "categories": categories,
        "images": images,
        "annotations": annotations,
    }
    (folder / "_annotations.coco.json").write_text(json.dumps(content))


def _leak_test_original(root: Path) -> None:
    """Put a copy of a test original into train, under another hash."""
    test = json.loads((root / "test/_annotations.coco.json").read_text())
    train = json.loads((root / "train/_annotations.coco.json").read_text())
    source = test["images"][0]
    name = source["file_name"].split(".rf.")[0] + f".rf.{'0' * 32}.jpg"
    pixels = read_image(root / "test" / source["file_name"], channels=1)
    write_picture(str(root / "train" / name), pixels, [cv2.IMWRITE_JPEG_QUALITY, 80])
    image = source | {"id": len(train["images"]), "file_name": name}
    own = next(a for a in test["annotations"] if a["image_id"] == source["id"])
    train["annotations"].append(own | {"id": len(train["annotations"]), "image_id": image["id"]})
    _write_json(root / "train", [*train["images"], image], train["annotations"])
