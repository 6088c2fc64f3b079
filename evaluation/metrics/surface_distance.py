"""Surface distances: HD95, ASSD and normalized surface Dice, from one pass an image and class.

Definitions are those of MONAI 1.6 (`compute_hausdorff_distance(percentile=95)`,
`compute_average_surface_distance(symmetric=True)`, `compute_surface_dice`, without subvoxels): a
surface is the set of pixels of a mask that erosion by a 4-neighborhood removes, and a distance is
measured from the center of a surface pixel to the nearest one of the other mask. Other libraries
define surfaces, percentiles and averages in other ways and give other numbers for the same masks
(Maier-Hein et al. 2024, "Metrics reloaded"; Reinke et al. 2024), so that numbers of different
libraries must not be compared.
"""

import warnings
from math import hypot
from typing import Any, ClassVar, Literal

import numpy as np

from datamodules.arguments import ArgumentError, PositiveFloat, config_dataclass
from evaluation.metrics.base import Metric
from evaluation.metrics.measurement import MaskMeasurement, Spacing, ratio_of_sums

PERCENTILE = 0.95
ROUNDING = 1e-6  # relative, of float32: a distance that equals the tolerance lies within it
UNIT_NAMES = {"px": "pixels of the evaluation grid", "mm": "mm"}


@config_dataclass
class SurfaceDistance(MaskMeasurement):
    """HD95, average symmetric surface distance (ASSD) and normalized surface Dice.

    Where only one of the two masks is empty there is no distance: MONAI returns NaN or infinity,
    which means leave such images out, as if they had not been missed. Here a missed lesion (no
    predicted mask) and an invented one (no true mask) score the diagonal of the image in `hd95` and
    `assd`, and 0 in `surface_dice`, as in the BraTS challenge. `hd95_detected` and `assd_detected`
    are the means over the other images. Images without any mask have no surface and do not count.

    Attributes:
        tolerance: Largest distance at which a surface counts as correct in `surface_dice`, in the
            unit.
        unit: `px`, pixels of the evaluation grid; `mm`, by the pixel spacing of the images; `auto`:
            mm if the spacing of every test image is known, else px.
    """

    columns: ClassVar[tuple[str, ...]] = (
        "hd95",
        "assd",
        "surface_dice",
        "any_mask",
        "hd95_detected",
        "assd_detected",
        "both_masks",
    )
    headline_scores: ClassVar[tuple[str, ...]] = ("hd95", "surface_dice")

    tolerance: PositiveFloat = 2.0
    unit: Literal["auto", "px", "mm"] = "auto"

    @property
    def needs_spacing(self) -> bool:
        """True if the user demands mm."""
        return self.unit == "mm"

    def at_spacing(self, known: bool) -> "SurfaceDistance":
        """Return the same with `px` or `mm` as its unit.

        Raises:
            ArgumentError: mm are demanded, and the spacing of some test image is not known.
        """
        if self.unit == "mm" and not known:
            raise ArgumentError(
                "",
                ("module", "measurements", "surface_distance", "unit"),
                "=mm needs the pixel spacing of every test image, and some have none; write it into"
                " a column spacing_mm of the manifest, or take auto or px",
            )
        unit = self.unit if self.unit != "auto" else "mm" if known else "px"
        return SurfaceDistance(tolerance=self.tolerance, unit=unit)

    def measure(
        self, predicted: np.ndarray, truth: np.ndarray, spacing: Spacing | None
    ) -> tuple[float, ...]:
        """Measure one image and class; see `columns`."""
        step = spacing if self.unit == "mm" and spacing is not None else (1.0, 1.0)
        there = bool(predicted.any()), bool(truth.any())
        if not any(there):
            return (0.0,) * len(self.columns)
        if not all(there):
            diagonal = hypot(truth.shape[0] * step[0], truth.shape[1] * step[1])
            return diagonal, diagonal, 0.0, 1.0, 0.0, 0.0, 0.0
        to_truth, to_prediction = _surface_distances(predicted, truth, step)
        every = np.concatenate([to_truth, to_prediction])
        hd95 = max(float(np.quantile(each, PERCENTILE)) for each in (to_truth, to_prediction))
        within = every <= self.tolerance * (1 + ROUNDING)
        assd, surface_dice = float(every.mean()), float(within.mean())
        return hd95, assd, surface_dice, 1.0, hd95, assd, 1.0

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Means over images."""
        unit = UNIT_NAMES[self.unit]
        penalty = "a missed or invented mask scores the image's diagonal"
        detected = "over images with a true and a predicted mask alone"
        return (
            _mean_metric(
                "hd95",
                "mean over images with a true or a predicted mask of the 95th percentile of surface"
                f" distances, the larger of both directions, in {unit}; {penalty}; lower is better",
                "any_mask",
                self.unit,
            ),
            _mean_metric(
                "assd",
                f"the same for the average symmetric surface distance, in {unit}; {penalty}; lower"
                " is better",
                "any_mask",
                self.unit,
            ),
            _mean_metric(
                "surface_dice",
                "mean over images with a true or a predicted mask of the share of both surfaces"
                f" that lies within {self.tolerance:g} {self.unit} of the other one; a missed or"
                " invented mask scores 0",
                "any_mask",
                lower_is_better=False,
            ),
            _mean_metric(
                "hd95_detected",
                f"hd95 {detected}, in {unit}; lower is better",
                "both_masks",
                self.unit,
            ),
            _mean_metric(
                "assd_detected",
                f"assd {detected}, in {unit}; lower is better",
                "both_masks",
                self.unit,
            ),
        )

    def describe_empty_masks(self, missed: int, invented: int, neither: int) -> str:
        """Say how many images have the score of a missed or an invented mask."""
        return (
            f"Surface distances: {missed} missed and {invented} invented masks score the image's"
            f" diagonal (hd95, assd) or 0 (surface dice); {neither} images without any mask do not"
            " count."
        )


def _mean_metric(
    name: str, definition: str, counted: str, unit: str = "", lower_is_better: bool = True
) -> Metric:
    return Metric(
        name,
        definition,
        lambda decision: decision.columns[counted] > 0,
        ratio_of_sums(name, counted),
        lower_is_better=lower_is_better,
        threshold_free=True,
        unit=unit,
    )


def _bounding_box(mask: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and columns of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _surface_distances(
    predicted: np.ndarray, truth: np.ndarray, spacing: Spacing
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance of each surface pixel of the prediction to the truth, and the reverse."""
    import torch
    from monai.metrics.utils import get_edge_surface_distance  # seconds that a test alone waits for

    box = _bounding_box(predicted | truth)  # MONAI searches it in many passes over the whole image
    predicted, truth = np.ascontiguousarray(predicted[box]), np.ascontiguousarray(truth[box])
    masks = torch.from_numpy(predicted), torch.from_numpy(truth)
    with warnings.catch_warnings():  # MONAI 1.6 calls itself with an argument that it deprecates
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        found: Any = get_edge_surface_distance(*masks, spacing=spacing, symmetric=True)
    to_truth, to_prediction = found[1]
    return to_truth.numpy(), to_prediction.numpy()
