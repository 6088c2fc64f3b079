"""One image from its heat map to boxes, to masks, to the masks that can be believed, in the image's own pixels."""

from dataclasses import dataclass, field, replace

import numpy as np

from callbacks.pseudo_labels.boxes import PeakBoxes
from callbacks.pseudo_labels.clock import StepTimer
from callbacks.pseudo_labels.grad_cam import ClassActivationMaps
from callbacks.pseudo_labels.masks import Segmenter
from callbacks.pseudo_labels.proposals import Proposals
from callbacks.pseudo_labels.quality import MaskCheck, QualityFilter
from datamodules.formats.rle import Rle, encode
from datamodules.letterbox import Letterbox

NO_PROPOSALS = Proposals(np.zeros((0, 4)), np.zeros((0, 2)), np.zeros(0))


@dataclass(frozen=True)
class ImageInfo:
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
class PseudoLabel:
    """One image and what the chain made of it.

    Attributes:
        info: The image.
        probability: As the classifier says.
        predicted_positive: Whether that reaches the threshold.
        has_cam: Whether its heat map was made: not below the threshold, nor beyond `max_images`.
        cam_nonzero: Whether the heat map shows anything at all.
        proposals: Boxes in canvas pixels.
        boxes: The same in the image's own, `N x 4`.
        peaks: Likewise, `N x 2`.
        mask_checks: Of the mask of each box; none where the image is known to be normal.
        mask: The accepted masks together, at the image's own size; None without any.
    """

    info: ImageInfo
    probability: float
    predicted_positive: bool
    has_cam: bool = False
    cam_nonzero: bool = False
    proposals: Proposals = NO_PROPOSALS
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    peaks: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    mask_checks: tuple[MaskCheck, ...] = ()
    mask: Rle | None = None

    @property
    def n_accepted(self) -> int:
        """How many of its masks can be believed."""
        return sum(verdict.reason is None for verdict in self.mask_checks)


class PseudoLabelPipeline:
    """Heat map -> boxes -> masks -> quality, for one image after the other.

    Args:
        heat_maps: Which know where their cells look.
        boxes: How peaks become boxes.
        segmenter: How boxes become masks.
        quality: Which masks are kept.
        timer: Counts the seconds of each step.
    """

    def __init__(
        self,
        heat_maps: ClassActivationMaps,
        boxes: PeakBoxes,
        segmenter: Segmenter,
        quality: QualityFilter,
        timer: StepTimer,
    ) -> None:
        self.heat_maps, self.boxes, self.segmenter, self.quality, self.timer = (
            heat_maps,
            boxes,
            segmenter,
            quality,
            timer,
        )

    def __call__(
        self, info: ImageInfo, probability: float, heat: np.ndarray, image: np.ndarray | None
    ) -> PseudoLabel:
        """An image above the threshold.

        Args:
            info: The image.
            probability: Of the classifier.
            heat: float32 `h x w` in 0..1 on the grid of a layer.
            image: uint8 `H x W` at its own size; None where no masks are wanted.
        """
        box = info.letterbox
        with self.timer("boxes"):
            large = self.heat_maps.upsample(heat, box.canvas)
            found = self.boxes(large, box.content)
            boxes, peaks = box.boxes_back(found.boxes), box.points_back(found.peaks)
        said = PseudoLabel(
            info,
            probability,
            predicted_positive=True,
            has_cam=True,
            cam_nonzero=bool(heat.max() > 0),
            proposals=found,
            boxes=boxes,
            peaks=peaks,
        )
        if image is None or not len(found):
            return said
        with self.timer("masks and their quality"):
            masks, stability = self.quality.segment(self.segmenter, image, info.id, boxes, peaks)
            verdicts = self.quality.check(
                masks, stability, boxes, peaks, box.back(large), probability
            )
            kept = masks.union([verdict.reason is None for verdict in verdicts])
        mask = encode(kept[..., None].astype(np.uint8))[0] if kept.any() else None
        return replace(said, mask_checks=tuple(verdicts), mask=mask)
