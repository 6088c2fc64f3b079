"""One image from its heat map to boxes, to masks, to the masks that can be believed, in the image's own pixels."""

from dataclasses import dataclass, field, replace

import numpy as np

from callbacks.pseudo_labels.boxes import PeakBoxes, Proposals
from callbacks.pseudo_labels.clock import Clock
from callbacks.pseudo_labels.grad_cam import HeatMaps
from callbacks.pseudo_labels.masks import Segmenter
from callbacks.pseudo_labels.quality import Quality, Verdict
from datamodules.formats.rle import Rle, encode
from datamodules.letterbox import Letterbox

NOTHING = Proposals(np.zeros((0, 4)), np.zeros((0, 2)), np.zeros(0))


@dataclass(frozen=True)
class Known:
    """What is known of an image before the chain looks at it.

    Attributes:
        id: Its name.
        split: train, val or test.
        label: 1 abnormal, 0 normal, None unknown.
        letterbox: Between its own pixels and the canvas.
    """

    id: str
    split: str
    label: int | None
    letterbox: Letterbox


@dataclass(frozen=True)
class Labelled:
    """One image and what the chain made of it.

    Attributes:
        known: The image.
        probability: As the classifier says.
        called: Whether that reaches the threshold.
        mapped: Whether its heat map was made: not below the threshold, nor beyond `max_images`.
        warm: Whether the heat map shows anything at all.
        found: Boxes in canvas pixels.
        boxes: The same in the image's own, `N x 4`.
        peaks: Likewise, `N x 2`.
        verdicts: Of the mask of each box; none where the image is known to be normal.
        mask: The accepted masks together, at the image's own size; None without any.
    """

    known: Known
    probability: float
    called: bool
    mapped: bool = False
    warm: bool = False
    found: Proposals = NOTHING
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    peaks: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    verdicts: tuple[Verdict, ...] = ()
    mask: Rle | None = None

    @property
    def accepted(self) -> int:
        """How many of its masks can be believed."""
        return sum(verdict.reason is None for verdict in self.verdicts)


class Chain:
    """Heat map -> boxes -> masks -> quality, for one image after the other.

    Args:
        heat_maps: Which know where their cells look.
        boxes: How peaks become boxes.
        segmenter: How boxes become masks.
        quality: Which masks are kept.
        clock: Counts the seconds of each step.
    """

    def __init__(
        self,
        heat_maps: HeatMaps,
        boxes: PeakBoxes,
        segmenter: Segmenter,
        quality: Quality,
        clock: Clock,
    ) -> None:
        self.heat_maps, self.boxes, self.segmenter, self.quality, self.clock = (
            heat_maps,
            boxes,
            segmenter,
            quality,
            clock,
        )

    def __call__(
        self, known: Known, probability: float, heat: np.ndarray, image: np.ndarray | None
    ) -> Labelled:
        """An image above the threshold.

        Args:
            known: The image.
            probability: Of the classifier.
            heat: float32 `h x w` in 0..1 on the grid of a layer.
            image: uint8 `H x W` at its own size; None where no masks are wanted.
        """
        box = known.letterbox
        with self.clock("boxes"):
            large = self.heat_maps.enlarged(heat, box.canvas)
            found = self.boxes(large, box.content)
            boxes, peaks = box.boxes_back(found.boxes), box.points_back(found.peaks)
        said = Labelled(
            known,
            probability,
            called=True,
            mapped=True,
            warm=bool(heat.max() > 0),
            found=found,
            boxes=boxes,
            peaks=peaks,
        )
        if image is None or not len(found):
            return said
        with self.clock("masks and their quality"):
            masks, stability = self.quality.segment(self.segmenter, image, known.id, boxes, peaks)
            verdicts = self.quality.judge(
                masks, stability, boxes, peaks, box.back(large), probability
            )
            kept = masks.union([verdict.reason is None for verdict in verdicts])
        mask = encode(kept[..., None].astype(np.uint8))[0] if kept.any() else None
        return replace(said, verdicts=tuple(verdicts), mask=mask)
