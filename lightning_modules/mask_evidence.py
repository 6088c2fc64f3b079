"""Evidence of segmented images: per class, a histogram of logit bytes split by the true mask."""

from dataclasses import dataclass

import numpy as np

from lightning_modules.evidence import Evidence
from lightning_modules.mask_decision import SegmentationDecision, constant_prediction, decide
from lightning_modules.mask_scores import SEGMENTATION_METRICS
from lightning_modules.score import Decision, Metric


@dataclass(frozen=True, kw_only=True)
class SegmentationEvidence(Evidence):
    """The evidence of N segmented images; `rule` holds (top, min_area, bottom).

    Attributes:
        counts: int32 `N x classes x 2 x 256`: pixels of each byte, outside [0] and inside [1] the
            true mask.
        grid: The evaluation size they were taken at, `native` or pixels.
    """

    kind = "mask"
    arrays = ("counts",)
    counts: np.ndarray
    grid: str

    @property
    def headline_metrics(self) -> tuple[str, ...]:
        """Names of the leading scores; image-level ones are among them if images show no lesion."""
        if (self.truth[:, :, 1] == 0).any():
            return (
                "dice",
                "dice_lesions",
                "image_auc",
                "image_sensitivity",
                "image_specificity",
                "average_precision",
            )
        return ("dice", "iou", "precision", "recall", "average_precision")

    @property
    def scores(self) -> tuple[Metric, ...]:
        """Overlap, and precision and recall of pixels."""
        return SEGMENTATION_METRICS

    @property
    def truth(self) -> np.ndarray:
        """Pixels outside and inside the true mask, `N x classes x 2`."""
        return self.counts.sum(3, dtype=np.int64)

    @property
    def evaluation_grid(self) -> str:
        """The grid, in words."""
        return (
            "judged at each image's own size"
            if self.grid == "native"
            else f"judged at {self.grid} px"
        )

    def decided(self, channel: int) -> SegmentationDecision:
        """One class after the mask rule."""
        return decide(self.counts[:, channel], self.rule[:, channel])

    def baselines(self, channel: int) -> dict[str, Decision]:
        """Return the empty mask and the full mask as predictions."""
        counts = self.counts[:, channel]
        return {
            "all empty": constant_prediction(counts, positive=False),
            "all positive": constant_prediction(counts, positive=True),
        }
