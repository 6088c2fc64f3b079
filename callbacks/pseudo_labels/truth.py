"""What is true of an image's lesions, and what a method said of them: all in the image's own pixels."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from callbacks.pseudo_labels.proposals import Proposals
from datamodules.letterbox import Letterbox

BoxArray = np.ndarray | Sequence[Sequence[float]]


@dataclass(frozen=True)
class GroundTruth:
    """One image and its lesions.

    Args:
        id: Of the image.
        group: Patient.
        height: Rows of the image in pixels.
        width: Columns in pixels.
        boxes: Lesions, `T x 4` (x1, y1, x2, y2), edges in pixels; none in a normal image; None
            where they are unknown.
        mask: Bool `height x width`, None where there is none. Where it alone is given, its
            components are the lesions.

    Raises:
        ValueError: boxes or a mask of another shape.
    """

    id: str
    group: str
    height: int
    width: int
    boxes: BoxArray | None
    mask: np.ndarray | None = None

    def __post_init__(self) -> None:
        boxes = None if self.boxes is None else to_box_array(self.boxes, self.id)
        if self.mask is not None and self.mask.shape != (self.height, self.width):
            raise ValueError(
                f"the true mask of '{self.id}' is {self.mask.shape}, its image {self.height} x"
                f" {self.width}; bring it to that size"
            )
        object.__setattr__(self, "boxes", boxes)

    @property
    def lesions(self) -> np.ndarray | None:
        """Boxes of the lesions, `T x 4`; None where they are unknown."""
        if self.boxes is None and self.mask is not None:
            return find_component_boxes(self.mask)
        return self.boxes  # type: ignore[return-value]  # an array since __post_init__


@dataclass(frozen=True)
class Detections:
    """What a method says of one image; by default nothing at all.

    Args:
        peak: (x, y) of the heat map's maximum; None where the map is all zero, or the classifier
            calls the image normal.
        boxes: `K x 4`, ranked by score, ties as they come.
        scores: `K`, any scale that is the same for all images.
        mask: Bool `height x width`, the union of the accepted pseudo masks; None (or all false)
            where there is none.

    Raises:
        ValueError: as many scores as boxes are not there, or one is no number.
    """

    peak: tuple[float, float] | None = None
    boxes: BoxArray = field(default_factory=lambda: np.zeros((0, 4)))
    scores: np.ndarray | Sequence[float] = field(default_factory=lambda: np.zeros(0))
    mask: np.ndarray | None = None

    def __post_init__(self) -> None:
        boxes, scores = (
            to_box_array(self.boxes, "what was said"),
            np.asarray(self.scores, np.float64),
        )
        if scores.shape != (len(boxes),) or not np.isfinite(scores).all():
            raise ValueError(
                f"{len(boxes)} boxes have scores {scores.tolist()}; give each box one finite score"
            )
        order = np.argsort(-scores, kind="stable")
        object.__setattr__(self, "boxes", boxes[order])
        object.__setattr__(self, "scores", scores[order])

    @classmethod
    def from_proposals(
        cls, proposals: Proposals, letterbox: Letterbox, mask: np.ndarray | None = None
    ) -> "Detections":
        """From peaks and boxes on a canvas.

        Args:
            proposals: In pixels of the canvas; a box's score is the height of its peak.
            letterbox: The way back to the image's own pixels.
            mask: In the image's own pixels already.
        """
        peaks, boxes = letterbox.points_back(proposals.peaks), letterbox.boxes_back(proposals.boxes)
        return cls(
            (float(peaks[0, 0]), float(peaks[0, 1])) if len(peaks) else None,
            boxes,
            proposals.heights,
            mask,
        )


def reconcile_boxes_with_label(label: int, boxes: BoxArray | None) -> BoxArray | None:
    """Boxes of a data set whose images have labels too, where the two agree on what is there.

    Args:
        label: 1 of an abnormal image, else 0.
        boxes: Its abnormal boxes, None where nobody drew any.

    Returns:
        No boxes of a normal image, whatever was drawn: the label is believed; None (unknown) of an
        abnormal one without a box, which would count as normal otherwise; else the boxes as they
        are.
    """
    if not label:
        return np.zeros((0, 4))
    return None if boxes is None or not len(boxes) else boxes


def find_component_boxes(mask: np.ndarray) -> np.ndarray:
    """Boxes `T x 4` of the components (8 neighbours) of a bool mask `H x W`."""
    found = ndimage.find_objects(ndimage.label(mask, np.ones((3, 3)))[0])
    return to_box_array(
        [[columns.start, rows.start, columns.stop, rows.stop] for rows, columns in found], "a mask"
    )


def to_box_array(boxes: BoxArray, owner: str) -> np.ndarray:
    """Boxes as float64 `N x 4`.

    Raises:
        ValueError: another shape, or what is no finite number.
    """
    array = np.asarray(boxes, np.float64)
    array = array.reshape(0, 4) if not array.size else array
    if array.ndim != 2 or array.shape[1] != 4 or not np.isfinite(array).all():
        raise ValueError(
            f"boxes of '{owner}' are {array.shape}, or not all finite; give N x 4 numbers (x1, y1,"
            " x2, y2)"
        )
    return array
