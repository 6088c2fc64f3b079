"""Inference on one image: from a file to masks or labels; needs only NumPy, OpenCV and Pillow.

The network is any function of arrays, so that PyTorch and onnxruntime share everything else.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from PIL import Image

from datamodules.errors import MAX_IMAGE_PIXELS, ManifestError, UserError
from datamodules.formats.file_content import check_file
from datamodules.formats.gray_levels import SourceImage, Window
from datamodules.formats.image_files import image_name, is_dicom, is_volume
from datamodules.formats.image_io import IMAGE_FORMATS, ImageReader, read_pixel_spacing
from datamodules.image_size import ImageSize
from datamodules.loading.letterbox import Letterbox, resize_image
from evaluation.decision_rule import (
    apply_mask_rule,
    decide_labels,
    image_probabilities,
    label_probabilities,
    mask_probabilities,
    predict_class_planes,
)

GRAY_MODES = ("1", "L", "LA", "I", "F")  # of Pillow; also those of 16 bits, such as `I;16`
Network = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Conversion of an image to the network's input, as in training.

    Attributes:
        image_size: Height and width of the network's input in pixels.
        cache_size: Height and width of the canvas on which the image is placed first; if they
            differ from `image_size`, the canvas is resized to it.
        channels: 1 for gray, 3 for RGB, or the number of channels that are images of their own.
        window: Values that are displayed black and white, of images of more than 8 bits; None if
            the network was trained on images of 8 bits.
        ignore_dicom_windows: True if the window replaces those of DICOMs.
        frame: See `ImageReader`.
        max_pixels: Largest image that is decoded, in pixels.
    """

    image_size: ImageSize
    cache_size: ImageSize
    channels: int
    window: Window | None = None
    ignore_dicom_windows: bool = False
    frame: int | Literal["channels"] | None = None
    max_pixels: int = MAX_IMAGE_PIXELS

    @property
    def reader(self) -> ImageReader:
        """Reader of the image files."""
        return ImageReader(
            self.frame, self.max_pixels, ignore_dicom_windows=self.ignore_dicom_windows
        )

    def read(self, path: Path) -> SourceImage:
        """Decode an image file.

        Raises:
            ManifestError: The file cannot be read, or is a volume.
        """
        if is_volume(path):
            raise ManifestError(
                f"{path} is a volume, of which one slice is an image; predict it with do=[predict],"
                " or write its slices as images"
            )
        return self.reader.read(path, self.channels)

    def from_array(self, pixels: np.ndarray) -> SourceImage:
        """Convert an array to the network's number of channels, as a file would be.

        Args:
            pixels: uint8 `H x W`, `H x W x 3` (RGB), or `H x W x channels`.

        Raises:
            UserError: Its type or shape is another one.
        """
        if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or not pixels.size:
            raise UserError(
                f"an image is a uint8 array H x W or H x W x 3, not {pixels.dtype} of shape"
                f" {pixels.shape}; display its values in 8 bits, or give the path of its file"
            )
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        if pixels.shape[2] == self.channels:
            return SourceImage(pixels)
        if self.channels == 3 and pixels.shape[2] == 1:
            return SourceImage(pixels.repeat(3, 2))
        if self.channels == 1 and pixels.shape[2] == 3:
            return SourceImage(np.asarray(Image.fromarray(pixels).convert("L"))[..., None])
        raise UserError(
            f"an image of {pixels.shape[2]} channels was given to a network of"
            f" {self.channels}; give an array H x W, H x W x 3, or one with those channels"
        )

    def to_canvas(self, image: SourceImage) -> np.ndarray:
        """Place an image on the network's canvas and display it in 8 bits.

        The levels are resized and then displayed by the window, in the order of the cache.

        Returns:
            uint8 `C x h x w`.

        Raises:
            ManifestError: The image has more than 8 bits, and those of the training did not.
        """
        if image.levels.deep and self.window is None:
            raise ManifestError(
                "it has more than 8 bits, and the images of the training did not, so that nothing"
                " tells which values are black and white; export it as an image of 8 bits"
            )
        height, width = image.pixels.shape[:2]
        box = Letterbox(height, width, self.cache_size)
        shown = image.levels.to_uint8(box.image(image.pixels), self.window)
        if self.image_size != self.cache_size:
            shown = resize_image(shown, *self.image_size)
        return np.ascontiguousarray(shown.transpose(2, 0, 1))


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Classes of a network and the rule that decides for them.

    Attributes:
        target: `mask` or `label`.
        classes: Names of the classes, in channel order.
        exclusive: True if a pixel has at most one class, or an image exactly one label.
        rule: Three numbers of each class; see `evaluation/decision_rule.py`.
    """

    target: Literal["mask", "label"]
    classes: tuple[str, ...]
    exclusive: bool
    rule: tuple[tuple[float, float, float], ...]

    def masks(self, logits: np.ndarray) -> np.ndarray:
        """Convert logits `C x H x W` of one whole image to masks, bool of the same shape."""
        if self.exclusive:
            return predict_class_planes(logits)
        return apply_mask_rule(logits, np.array(self.rule))

    def mask_image_probabilities(self, logits: np.ndarray) -> list[float]:
        """Return the probability that the image shows each class, from logits `C x H x W`."""
        return image_probabilities(logits, np.array(self.rule), self.exclusive).tolist()

    def labels(self, logits: np.ndarray) -> tuple[list[float], list[bool]]:
        """Return probability and decision of each class from the logits `C` of one image."""
        threshold, temperature, _ = np.array(self.rule).T
        probability = label_probabilities(logits[None], temperature, self.exclusive)
        decided = decide_labels(probability, threshold, self.exclusive)
        return probability[0].tolist(), decided[0].tolist()


class LesionBox(NamedTuple):
    """Box around one connected component of a mask, in pixels of the image.

    Attributes:
        name: Name of the class.
        x1: Left edge; the corner of the first pixel is (0, 0).
        y1: Upper edge.
        x2: Right edge, behind the last pixel.
        y2: Lower edge.
        area: Number of pixels of the component.
    """

    name: str
    x1: int
    y1: int
    x2: int
    y2: int
    area: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Prediction:
    """Result of one image.

    Attributes:
        id: Name of the image.
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        decision: Classes and rule.
        probability: Probability that the image shows each class; see `image_probabilities`.
        positive: True for each class that the image shows: its mask is not empty, or its label
            holds.
        masks: Bool `C x H x W` at the image's own size; None for labels.
        spacing: Distance of rows and of columns in mm; None if it is not known.
        converted_from_color: True if the file is a color image and the network sees gray.
        canvas_logits: Logits on the network's canvas, float32 `C x h x w`, or `C` for labels.
        box: Place of the image on that canvas.
    """

    id: str
    height: int
    width: int
    decision: Decision
    probability: dict[str, float]
    positive: dict[str, bool]
    masks: np.ndarray | None
    spacing: tuple[float, float] | None
    converted_from_color: bool
    canvas_logits: np.ndarray
    box: Letterbox

    @property
    def label(self) -> str:
        """Names of the classes that the image shows, joined by commas; empty if none."""
        return ", ".join(name for name, shown in self.positive.items() if shown)

    @property
    def mask(self) -> np.ndarray:
        """The mask as one plane, uint8 `H x W`: 0 is the background, k the k-th class.

        Raises:
            UserError: There is none: the network predicts labels, or several classes that may
                overlap.
        """
        if self.masks is None:
            raise UserError("this network predicts labels; take .label, .positive or .probability")
        if len(self.masks) > 1 and not self.decision.exclusive:
            raise UserError(
                f"the masks of {', '.join(self.decision.classes)} may overlap, so that they are no"
                " single plane; take .masks, which has a plane for each class"
            )
        numbers = np.arange(1, len(self.masks) + 1, dtype=np.uint8)[:, None, None]
        return (self.masks * numbers).max(0)

    @property
    def probability_map(self) -> np.ndarray:
        """Probability of each class at each pixel, float32 `C x H x W`.

        Raises:
            UserError: The network predicts labels.
        """
        if self.masks is None:
            raise UserError("this network predicts labels, which have no map; take .probability")
        logits = self.box.logits_back(self.canvas_logits)
        return mask_probabilities(logits, self.decision.exclusive)

    @cached_property
    def boxes(self) -> list[LesionBox]:
        """Boxes around the connected components of all masks, the largest of a class first."""
        if self.masks is None:
            return []
        found: list[LesionBox] = []
        for name, mask in zip(self.decision.classes, self.masks, strict=True):
            stats = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)[2][1:]
            boxes = [LesionBox(name, x, y, x + w, y + h, n) for x, y, w, h, n in stats.tolist()]
            found += sorted(boxes, key=lambda box: -box.area)
        return found

    @property
    def area(self) -> dict[str, int]:
        """Number of pixels of the mask of each class; empty for labels."""
        if self.masks is None:
            return {}
        counts = self.masks.reshape(len(self.masks), -1).sum(1).tolist()
        return dict(zip(self.decision.classes, counts, strict=True))

    @property
    def area_mm2(self) -> dict[str, float] | None:
        """Area of the mask of each class in mm^2; None if the pixel spacing is not known."""
        if self.spacing is None or self.masks is None:
            return None
        pixel = self.spacing[0] * self.spacing[1]
        return {name: count * pixel for name, count in self.area.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the pixels as plain values, for a JSON file."""
        found: dict[str, Any] = {
            "id": self.id,
            "height": self.height,
            "width": self.width,
            "label": self.label,
            "positive": self.positive,
            "probability": self.probability,
        }
        if self.masks is not None:
            found |= {"area": self.area, "area_mm2": self.area_mm2}
            found |= {"boxes": [box._asdict() for box in self.boxes], "spacing": self.spacing}
        return found


class LoadedImage(NamedTuple):
    """Image on the network's canvas.

    Attributes:
        id: Name of the image.
        canvas: uint8 `C x h x w`.
        box: Place of the image on the canvas.
        spacing: Distance of rows and of columns in mm; None if it is not known.
        converted_from_color: True if the file is a color image and the network sees gray.
    """

    id: str
    canvas: np.ndarray
    box: Letterbox
    spacing: tuple[float, float] | None
    converted_from_color: bool


class InferencePipeline:
    """Predictor of images by any network: decoding, canvas, logits, rule.

    Args:
        network: Function from uint8 `B x C x h x w` to float32 logits, `B x classes x h x w` for
            masks or `B x classes` for labels.
        preprocessing: Conversion of images to the network's input.
        decision: Classes and rule.
        min_component: Connected components of a mask with fewer pixels are removed; 0 keeps all.
    """

    def __init__(
        self,
        network: Network,
        preprocessing: Preprocessing,
        decision: Decision,
        min_component: int = 0,
    ) -> None:
        self.network = network
        self.preprocessing = preprocessing
        self.decision = decision
        self.min_component = min_component

    def __call__(self, image: str | Path | np.ndarray) -> Prediction:
        """Predict one image.

        Args:
            image: Path of a file, or a uint8 array `H x W` or `H x W x 3` (RGB).

        Raises:
            ManifestError: The file cannot be read.
            UserError: The array is no image.
        """
        return self.predict_batch([self.load(image)])[0]

    def predict_many(
        self, images: Sequence[str | Path | np.ndarray], batch_size: int = 8
    ) -> Iterator[Prediction]:
        """Predict images one batch after the other, in their order.

        Raises:
            ManifestError: See `__call__`; the images before it are predicted.
            UserError: See `__call__`.
        """
        for start in range(0, len(images), batch_size):
            few = images[start : start + batch_size]
            yield from self.predict_batch([self.load(each) for each in few])

    def load(self, image: str | Path | np.ndarray) -> LoadedImage:
        """Read an image and place it on the network's canvas.

        Raises:
            ManifestError: See `__call__`.
            UserError: See `__call__`.
        """
        if isinstance(image, np.ndarray):
            return self.place("array", self.preprocessing.from_array(image))
        path = Path(image)
        source = self.preprocessing.read(path)
        gray = self.preprocessing.channels == 1
        return self.place(
            image_name(path), source, read_pixel_spacing(path), gray and is_color_file(path)
        )

    def place(
        self,
        id: str,
        source: SourceImage,
        spacing: tuple[float, float] | None = None,
        converted_from_color: bool = False,
    ) -> LoadedImage:
        """Place a decoded image on the network's canvas.

        Raises:
            ManifestError: See `Preprocessing.to_canvas`.
        """
        try:
            canvas = self.preprocessing.to_canvas(source)
        except ManifestError as refusal:
            raise ManifestError(f"{id} cannot be predicted: {refusal}") from refusal
        height, width = source.pixels.shape[:2]
        box = Letterbox(height, width, self.preprocessing.image_size)
        return LoadedImage(id, canvas, box, spacing, converted_from_color)

    def predict_batch(self, images: Sequence[LoadedImage]) -> list[Prediction]:
        """Predict images that lie on the network's canvas, all at once."""
        if not images:
            return []
        logits = self.network(np.stack([image.canvas for image in images]))
        return [
            decide(image, each, self.decision, self.min_component)
            for image, each in zip(images, logits, strict=True)
        ]


def decide(
    image: LoadedImage, logits: np.ndarray, decision: Decision, min_component: int = 0
) -> Prediction:
    """Convert the logits of one image to masks or labels.

    Args:
        image: The image; its canvas is not used.
        logits: Logits on the network's canvas, float32 `C x h x w`, or `C` for labels.
        decision: Classes and rule.
        min_component: Connected components of a mask with fewer pixels are removed; 0 keeps all.
    """
    names, masks = decision.classes, None
    if decision.target == "label":
        probability, positive = decision.labels(logits)
    else:
        whole = image.box.logits_back(logits)
        masks = decision.masks(whole)
        if min_component > 1:
            masks = remove_small_components(masks, min_component)
        probability = decision.mask_image_probabilities(whole)
        positive = [bool(mask.any()) for mask in masks]
    return Prediction(
        id=image.id,
        height=image.box.height,
        width=image.box.width,
        decision=decision,
        probability=dict(zip(names, probability, strict=True)),
        positive=dict(zip(names, positive, strict=True)),
        masks=masks,
        spacing=image.spacing,
        converted_from_color=image.converted_from_color,
        canvas_logits=logits,
        box=image.box,
    )


def remove_small_components(masks: np.ndarray, min_pixels: int) -> np.ndarray:
    """Remove the connected components (of 8 neighbors) that have fewer pixels.

    Args:
        masks: Bool `C x H x W`.
        min_pixels: Number of pixels of the smallest component that is kept.

    Returns:
        Bool `C x H x W`.
    """
    kept = np.zeros_like(masks)
    for channel, mask in enumerate(masks):
        _, numbers, stats, _ = cv2.connectedComponentsWithStats(
            mask.astype(np.uint8), connectivity=8
        )
        large = stats[:, cv2.CC_STAT_AREA] >= min_pixels
        large[0] = False  # the background
        kept[channel] = large[numbers]
    return kept


def is_color_file(path: Path) -> bool:
    """Return True if a file's header announces a color image, also one that shows only gray."""
    if is_dicom(path, None):
        from datamodules.formats.dicom import read_dicom_elements

        return int(read_dicom_elements(path, ["SamplesPerPixel"]).get("SamplesPerPixel") or 1) > 1
    check_file(path)
    with Image.open(path, formats=IMAGE_FORMATS) as image:
        return image.mode not in GRAY_MODES and not image.mode.startswith("I;16")
