"""Pipeline of one image's pseudo labels: heat map, boxes, masks, quality control."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from datamodules.base import ManifestDataModule
from datamodules.formats.rle import Rle, encode_rle
from datamodules.loading.cache_builder import load_view
from datamodules.loading.letterbox import Letterbox
from datamodules.manifest.manifest import label_matrix
from evaluation.localization import GroundTruth, Proposals, reconcile_boxes_with_label
from weak_supervision.boxes import PeakBoxes
from weak_supervision.cam import ClassActivationMaps
from weak_supervision.quality import MaskCheck, QualityFilter
from weak_supervision.segmenters.base import Segmenter


class StepTimer:
    """Timer of the seconds per step, in the order in which the steps first started."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._started: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Time the body of the `with` statement as one step."""
        self.start(step)
        try:
            yield
        finally:
            self.stop(step)

    def start(self, step: str) -> None:
        """Start or resume a step."""
        self.seconds.setdefault(step, 0.0)
        self._started[step] = time.perf_counter()

    def stop(self, step: str) -> None:
        """Stop a step, if it was started."""
        if step in self._started:
            self.seconds[step] += time.perf_counter() - self._started.pop(step)


NO_PROPOSALS = Proposals(np.zeros((0, 4)), np.zeros((0, 2)), np.zeros(0))


@dataclass(frozen=True)
class ImageInfo:
    """Metadata of an image that are known before the pipeline runs.

    Attributes:
        id: Id of the image.
        split: train, val or test.
        label: 1 abnormal, 0 normal, None unknown.
        letterbox: Mapping between its own pixels and the canvas.
    """

    id: str
    split: str
    label: int | None
    letterbox: Letterbox


@dataclass(frozen=True)
class PseudoLabel:
    """Result of the pipeline for one image.

    Attributes:
        info: The image.
        probability: Probability by the classifier.
        predicted_positive: True if the decision rule calls the image positive.
        has_cam: True if its heat map was computed, that is, above the threshold and within
            `max_images`.
        cam_nonzero: True if the heat map is not all zero.
        proposals: Boxes in canvas pixels.
        boxes: The same boxes in the image's own pixels, `N x 4`.
        peaks: Peaks in the image's own pixels, `N x 2`.
        mask_checks: Check of each box's mask; none if the image is known to be normal.
        mask: Union of the accepted masks, at the image's own size; None without any.
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
        """Number of accepted masks of the image."""
        return sum(verdict.reason is None for verdict in self.mask_checks)


class PseudoLabelPipeline:
    """Pipeline from a heat map to boxes, masks and quality checks, one image at a time.

    Args:
        heat_maps: Class activation maps, which upsample heat maps.
        boxes: Function that makes boxes from peaks.
        segmenter: Function that makes masks from boxes.
        quality: Filter that accepts or rejects masks.
        timer: Timer of each step.
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
        """Process an image above the threshold.

        Args:
            info: The image.
            probability: Probability by the classifier.
            heat: float32 `h x w` in 0..1 on the grid of a layer.
            image: uint8 `H x W` at its own size; None if no masks are wanted.
        """
        box = info.letterbox
        with self.timer("boxes"):
            large = self.heat_maps.upsample(heat, box.canvas)
            found = self.boxes(large, box.content)
            boxes, peaks = box.boxes_back(found.boxes), box.points_back(found.peaks)
        pseudo_label = PseudoLabel(
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
            return pseudo_label
        with self.timer("masks and their quality"):
            masks, stability = self.quality.segment(self.segmenter, image, info.id, boxes, peaks)
            verdicts = self.quality.check(
                masks, stability, boxes, peaks, box.back(large), probability
            )
            kept = masks.union([verdict.reason is None for verdict in verdicts])
        mask = encode_rle(kept[..., None].astype(np.uint8))[0] if kept.any() else None
        return replace(pseudo_label, mask_checks=tuple(verdicts), mask=mask)


class ImageLookup:
    """Lookup of a data set's images by their ids.

    Args:
        data: Prepared data module.
        channel: Channel of the class.
    """

    def __init__(self, data: ManifestDataModule, channel: int = 0) -> None:
        self._table, self._canvas = data.table, data.current_image_size()
        self._sizes = np.asarray(data.cache.sizes).tolist()
        self._window = data.display_window()
        labels = label_matrix(data.table)
        self._labels = None if labels is None else labels[:, channel].astype(int).tolist()
        rows: Any = data.table.rows
        self._columns = {
            name: rows[name].tolist()
            for name in ("image", "split", "group", "boxes", "true_mask")
            if name in rows
        }
        self.index_by_id = {id: number for number, id in enumerate(data.table.rows["id"].tolist())}

    def info(self, id: str) -> ImageInfo:
        """Return split, label and letterbox of an image."""
        row = self.index_by_id[id]
        label = None if self._labels is None else self._labels[row]
        height, width = self._sizes[row]
        return ImageInfo(
            id, self._columns["split"][row], label, Letterbox(height, width, self._canvas)
        )

    def load_image(self, id: str) -> np.ndarray:
        """Load an image at its own size, uint8 `H x W`."""
        row = self.index_by_id[id]
        return load_view(self._table, row, channels=1).to_uint8(self._window)[..., 0]

    def ground_truth(self, id: str) -> GroundTruth:
        """Return an image's lesions, as far as boxes or a mask are known."""
        row = self.index_by_id[id]
        height, width = self._sizes[row]
        path = self._columns["true_mask"][row] if "true_mask" in self._columns else None
        true = self._table.read_true_mask(path).mask if isinstance(path, str) else None
        mask = None if true is None else true[..., 0] > 0
        boxes = self._columns["boxes"][row] if "boxes" in self._columns else None
        boxes = boxes if isinstance(boxes, list) else None
        if self._labels is not None:
            boxes = reconcile_boxes_with_label(self._labels[row], boxes)
        return GroundTruth(id, self._columns["group"][row], height, width, boxes, mask)

    def has_known_lesions(self, split: str) -> bool:
        """Return True if the lesions of any image of a split are known."""
        there = [row for row, of in enumerate(self._columns["split"]) if of == split]
        boxes = (
            any(self._columns["boxes"][row] for row in there) if "boxes" in self._columns else False
        )
        return boxes or (
            "true_mask" in self._columns
            and any(isinstance(self._columns["true_mask"][row], str) for row in there)
        )
