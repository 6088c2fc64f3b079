"""Parity of a bundle with the run that it was made of, over all images of a test set.

PyTorch sees each image as a test does, by the data module; the bundle reads the file itself. So a
difference anywhere between file and decision is found.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from datamodules.errors import UserError
from datamodules.formats.gray_levels import SourceImage
from deployment.inference import InferencePipeline, LoadedImage, Prediction
from deployment.trained_network import TrainedNetwork

MAX_FLIPPED_FRACTION = 1e-5  # of all pixels of all masks
MAX_PROBABILITY_DIFFERENCE = 1e-4  # of labels
BATCH = 8  # images


class TestImage(NamedTuple):
    """Image of a test set, as the data module and as the bundle get it.

    Attributes:
        id: Name of the image.
        canvas: uint8 `C x h x w`, the network's input in a test.
        size: Height and width of the image in pixels.
        source: File that the bundle reads; or the decoded image where a sample is no single file (a
            slice of a volume, a crop, channels of several files).
    """

    id: str
    canvas: np.ndarray
    size: tuple[int, int]
    source: Path | SourceImage


@dataclass(kw_only=True)
class Parity:
    """Differences between a run and its bundle, over a whole test set.

    Attributes:
        images: Number of images.
        from_arrays: Number of them that the bundle got as decoded images, not as files.
        other_canvas: Number of images whose input differs in any pixel.
        pixels: Number of pixels of all masks.
        flipped_pixels: Number of pixels that one calls positive and the other does not.
        flipped_images: Number of decisions on images, one per class, that differ.
        max_logit_difference: Largest difference of two logits on the network's canvas.
        max_probability_difference: Largest difference of the probabilities of images.
        examples: Ids of the first images that differ.
    """

    images: int = 0
    from_arrays: int = 0
    other_canvas: int = 0
    pixels: int = 0
    flipped_pixels: int = 0
    flipped_images: int = 0
    max_logit_difference: float = 0.0
    max_probability_difference: float = 0.0
    examples: list[str] = field(default_factory=list)

    @property
    def flipped_fraction(self) -> float:
        """Fraction of pixels that differ."""
        return self.flipped_pixels / self.pixels if self.pixels else 0.0

    def failure(self, target: str) -> str:
        """Return what exceeds its limit, in words; empty if nothing does.

        Args:
            target: `mask` or `label`.
        """
        if not self.images:
            return "there is no test image to compare on"
        if self.flipped_fraction > MAX_FLIPPED_FRACTION:
            return (
                f"{self.flipped_pixels} of {self.pixels} pixels differ, and the limit is"
                f" {MAX_FLIPPED_FRACTION:g} of them"
            )
        if self.flipped_images:
            return f"{self.flipped_images} decisions on images differ"
        largest = self.max_probability_difference
        if target == "label" and not largest <= MAX_PROBABILITY_DIFFERENCE:
            return (
                f"probabilities differ by {largest:.2g}, and the limit is"
                f" {MAX_PROBABILITY_DIFFERENCE:g}"
            )
        return ""

    def as_dict(self, target: str) -> dict[str, Any]:
        """Return all numbers with their limits, without names of images."""
        numbers = {name: value for name, value in asdict(self).items() if name != "examples"}
        limits: dict[str, float] = {"flipped_images": 0}
        if target == "mask":
            limits["flipped_fraction"] = MAX_FLIPPED_FRACTION
        else:
            limits["max_probability_difference"] = MAX_PROBABILITY_DIFFERENCE
        return numbers | {"flipped_fraction": self.flipped_fraction, "limits": limits}


def measure_parity(
    trained: TrainedNetwork, bundle: InferencePipeline, images: Iterable[TestImage]
) -> Parity:
    """Compare the network of a run in PyTorch, in fp32 on the CPU, with its bundle.

    Raises:
        ManifestError: The bundle cannot read an image.
    """
    parity, waiting = Parity(), iter(images)
    while batch := list(islice(waiting, BATCH)):
        logits = trained.predict_logits(np.stack([image.canvas for image in batch]))
        loaded = [_load(bundle, image) for image in batch]
        predictions = bundle.predict_batch(loaded)
        for image, own, placed, prediction in zip(batch, logits, loaded, predictions, strict=True):
            parity.images += 1
            parity.from_arrays += isinstance(image.source, SourceImage)
            parity.other_canvas += not np.array_equal(image.canvas, placed.canvas)
            _compare(parity, trained, image, own, prediction)
    return parity


def _load(bundle: InferencePipeline, image: TestImage) -> LoadedImage:
    if isinstance(image.source, SourceImage):
        return bundle.place(image.id, image.source)
    return bundle.load(image.source)._replace(id=image.id)


def _compare(
    parity: Parity,
    trained: TrainedNetwork,
    image: TestImage,
    logits: np.ndarray,
    prediction: Prediction,
) -> None:
    """Add the differences of one image.

    Args:
        parity: Numbers so far.
        trained: Network of the run.
        image: The image.
        logits: Its logits in PyTorch, `C x h x w`, or `C` for labels.
        prediction: Result of the bundle.
    """
    if (prediction.height, prediction.width) != image.size:
        raise UserError(
            f"'{image.id}' is {prediction.height} x {prediction.width} pixels in its file and"
            f" {image.size[0]} x {image.size[1]} in the data set; predict it from an array"
        )
    difference = float(np.abs(logits - prediction.canvas_logits).max())
    parity.max_logit_difference = max(parity.max_logit_difference, difference)
    flipped = 0
    if prediction.masks is None:
        probability, positive = _decide_labels(trained, logits)
    else:
        masks, probability = _decide_masks(trained, logits, prediction)
        flipped = int((masks != prediction.masks).sum())
        positive = [bool(mask.any()) for mask in masks]
        parity.pixels += masks.size
        parity.flipped_pixels += flipped
    found = list(prediction.probability.values())
    largest = float(np.abs(np.array(probability) - found).max())
    parity.max_probability_difference = max(parity.max_probability_difference, largest)
    decisions = sum(a != b for a, b in zip(positive, prediction.positive.values(), strict=True))
    parity.flipped_images += decisions
    if (flipped or decisions) and len(parity.examples) < 3:
        parity.examples.append(image.id)


def _decide_labels(
    trained: TrainedNetwork, logits: np.ndarray
) -> tuple[Sequence[float], Sequence[bool]]:
    rule = trained.module.rule
    tensor = torch.from_numpy(logits)[None]
    return rule.probability(tensor)[0].tolist(), rule(tensor)[0].tolist()  # type: ignore[operator]


def _decide_masks(
    trained: TrainedNetwork, logits: np.ndarray, prediction: Prediction
) -> tuple[np.ndarray, Sequence[float]]:
    """Return masks and probabilities as PyTorch resizes and decides, bool `C x H x W`."""
    inside = torch.from_numpy(logits)[None][prediction.box.content.slices]
    whole = F.interpolate(
        inside,
        size=(prediction.height, prediction.width),
        mode="bilinear",
        align_corners=False,
    )
    masks = trained.module.rule(whole)[0].numpy()
    return masks, trained.decision.mask_image_probabilities(whole[0].numpy())
