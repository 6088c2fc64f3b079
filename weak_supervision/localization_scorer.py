"""Scorer of pseudo labels against lesions, with baselines."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor

from datamodules.arguments import PositiveFloat, PositiveInt, validated
from datamodules.base import ManifestDataModule
from datamodules.formats.rle import decode_rle
from evaluation.bootstrap import (
    MIN_GROUPS,
    Estimate,
    PairedDifference,
    paired_difference,
)
from evaluation.localization import (
    Detections,
    ImageStats,
    LocalizationConfig,
    LocalizationResults,
    Proposals,
    check_same_images,
    compute_image_stats,
    compute_scores,
    count_patients,
    counted_images,
    estimate_scores,
    froc_score_name,
    resample_scores,
    to_table,
)
from reporting.ranking import BETTER, NOT_DISTINGUISHABLE, WORSE, significance_label
from weak_supervision.baselines import (
    BrightestBlobBaseline,
    WeightRandomizationBaseline,
    preprocess,
)
from weak_supervision.boxes import PeakBoxes
from weak_supervision.cam import ClassActivationMaps
from weak_supervision.figures import plot_froc, plot_hit_rates
from weak_supervision.pipeline import ImageInfo, ImageLookup, PseudoLabel

HEADLINE_SCORE = "pointing_box"
COMPARED_SCORES = (HEADLINE_SCORE, "hit_rate_center_at_1", "hit_rate_iou_at_1", froc_score_name(1))


def baseline_differences(
    method: LocalizationResults,
    baseline: LocalizationResults,
    rules: LocalizationConfig,
    score_names: Sequence[str] = COMPARED_SCORES,
) -> dict[str, PairedDifference]:
    """Compute method minus baseline for each score, with the 95 % interval of a paired bootstrap.

    Each bootstrap replicate resamples the same patients for both.

    Args:
        method: Results on the same images as the baseline's.
        baseline: Results on the same images as the method's.
        rules: Scoring rules, with `resamples` and `seed` of the bootstrap.
        score_names: Names of scores; those that the rules do not define are left out.

    Raises:
        ValueError: The two have different images.
    """
    check_same_images(method, baseline)
    points = [compute_scores(each, rules) for each in (baseline, method)]
    replicates = [resample_scores(each, rules) for each in (baseline, method)]
    return {
        name: paired_difference(
            replicates[0].get(name, np.zeros(0)),
            replicates[1].get(name, np.zeros(0)),
            points[1][name] - points[0][name],
            count_patients(method, counted_images(method, name)),
        )
        for name in score_names
        if name in points[1]
    }


def summary_sentence(
    method: Estimate,
    baselines: Mapping[str, Estimate],
    differences: Mapping[str, PairedDifference],
    score_name: str = "the pointing game",
) -> str:
    """State the method's score, and whether it is better or worse than each baseline.

    The paired differences decide: two intervals may overlap while the difference is clear.

    Args:
        method: The method's estimate of a score, `estimates(...)["pointing_box"]`.
        baselines: Name of a baseline -> its estimate of the same score.
        differences: Name of a baseline -> paired difference, method minus baseline.
        score_name: Words for the score.
    """
    names = list(baselines)
    if not np.isfinite(method.value):
        return (
            f"{_capitalize(score_name)} has no image with a known lesion, so the heat maps cannot"
            f" be compared with {_join_phrases(names)}."
        )
    start = (
        f"{_capitalize(score_name)} gives {_format_estimate(method)} for the heat maps"
        f" (n = {method.n})"
    )
    if any(gap.low is None for gap in differences.values()):
        scores = [f"{name} ({_format_estimate(baselines[name])})" for name in names]
        return (
            f"{start}; they cannot be compared with {_join_phrases(scores)}, because fewer than"
            f" {MIN_GROUPS} patients have a known lesion."
        )
    claims = [
        f"{CLAIMS[significance_label(differences[name])]} {name}"
        f" ({_format_estimate(baselines[name])};"
        f" difference {_format_difference(differences[name])})"
        for name in names
    ]
    return f"{start}; they are {_join_phrases(claims)}."


CLAIMS = {
    BETTER: "better than",
    WORSE: "worse than",
    NOT_DISTINGUISHABLE: "not distinguishable from",
}


def _format_estimate(score: Estimate) -> str:
    return _format_number(score.value) + (
        f" [{_format_number(score.low)}, {_format_number(score.high)}]"
        if score.low is not None and score.high is not None
        else ""
    )


def _format_difference(difference: PairedDifference) -> str:
    ends = (
        f" [{_format_number(difference.low, '+')}, {_format_number(difference.high, '+')}]"
        if difference.low is not None and difference.high is not None
        else ""
    )
    return _format_number(difference.value, "+") + ends


def _format_number(value: float, sign: str = "") -> str:
    """Format a value with two decimals and no leading zero, as .62 and -.05."""
    return f"{value:{sign}.2f}".replace("0.", ".", 1)


def _join_phrases(phrases: Sequence[str], conjunction: str = "and") -> str:
    return f" {conjunction} ".join(
        [*([", ".join(phrases[:-1])] if len(phrases) > 1 else []), *phrases[-1:]]
    )


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]


@dataclass(frozen=True)
class LocalizationReport:
    """Report of localization scoring.

    Attributes:
        table: Method -> score -> value, low, high, n, definition, ...
        differences: Baseline -> score -> difference of the heat maps from it, with its interval.
        summary: One sentence that compares the heat maps with the baselines.
        figures: Title -> SVG.
    """

    table: dict[str, Any]
    differences: dict[str, Any]
    summary: str
    figures: dict[str, str]


class NullScorer:
    """Scorer that does nothing."""

    image_stats: ClassVar[list[Any]] = []

    def reset(self, *_: Any) -> None:
        """Do nothing."""

    def wants(self, info: ImageInfo) -> bool:
        """Return False, because no image is scored."""
        return False

    def update(self, *_: Any) -> None:
        """Do nothing."""

    def compute(self, image_stats: Sequence[Any]) -> None:
        """Return None."""


METHOD_CAM, METHOD_PIPELINE, METHOD_RANDOM_WEIGHTS, METHOD_BRIGHTEST_BLOB = (
    "the heat maps",
    "the whole pipeline, images above the threshold only",
    "randomized weights",
    "the brightest blob",
)
METHOD_WEIGHTED_BLOB = "the brightest blob, weighted by the classifier"
LOCALIZATION_KEY = "callbacks.pseudo_labels.localization"


@validated
class LocalizationScorer:
    """Scorer of the pipeline's localization and of its baselines, one image at a time.

    All methods make boxes in the same way. The pointing game counts every image with a lesion,
    whatever its probability. A box's score is the probability of its image times its peak; for a
    random network it is the trained network's probability, so that only the place is compared; the
    brightest blob is scored with and without it.

    Args:
        split: Split whose images are scored.
        random_networks: Number of networks with random weights; their mean is one baseline.
        blob_sigma: Standard deviation of the Gaussian before blobs are searched, in canvas pixels.
        rules: Rules of scoring.

    Raises:
        UserError: no such split, no random network.
    """

    def __init__(
        self,
        split: Literal["train", "val", "test"],
        random_networks: PositiveInt,
        blob_sigma: PositiveFloat,
        rules: LocalizationConfig,
    ) -> None:
        self.split, self.rules = split, rules
        self._randomized_networks, self._brightest_blob = (
            WeightRandomizationBaseline(random_networks),
            BrightestBlobBaseline(blob_sigma),
        )
        self.image_stats: list[dict[str, ImageStats]] = []

    def reset(
        self, module: Any, data: ManifestDataModule, lookup: ImageLookup, boxes: PeakBoxes
    ) -> None:
        """Create the random networks, if lesions of the split are known.

        Args:
            module: Trained module, which has no hooks yet.
            data: Data that will be predicted.
            lookup: Lookup of its images.
            boxes: Function that makes boxes from peaks.
        """
        self._lookup, self._active = (
            lookup,
            self.split in data.predict_splits and lookup.has_known_lesions(self.split),
        )
        self._boxes = boxes
        self._brightest_blob.boxes = replace(boxes, at_least=0.0)
        # otherwise a full bladder would exclude all other peaks
        self.image_stats = []
        if self._active:
            self._randomized_networks.initialize(module, data)

    def wants(self, info: ImageInfo) -> bool:
        """Return True if an image is scored and therefore needs a heat map for any probability."""
        return self._active and info.split == self.split

    def update(
        self,
        module: Any,
        images: Tensor,
        pseudo_labels: Sequence[tuple[PseudoLabel, np.ndarray]],
        heat_maps: ClassActivationMaps,
        channel: int,
    ) -> None:
        """Score the images of one batch.

        Args:
            module: Trained module.
            images: uint8 `B x C x H x W`.
            pseudo_labels: Result of the pipeline and heat map, float32 `h x w`, of each image.
            heat_maps: Method and layers.
            channel: Channel of the logits.
        """
        random = self._randomized_networks.compute(preprocess(module, images), heat_maps, channel)
        grays = images.float().mean(1).round().byte().cpu().numpy()
        for i, (pseudo_label, heat) in enumerate(pseudo_labels):
            info = pseudo_label.info
            truth, box = self._lookup.ground_truth(info.id), info.letterbox
            mask = (
                None
                if pseudo_label.mask is None
                else decode_rle([pseudo_label.mask], truth.height, truth.width)[..., 0] > 0
            )
            blob = self._brightest_blob(grays[i], box.content)
            own = (
                weight_by_probability(pseudo_label.proposals, pseudo_label.probability)
                if pseudo_label.has_cam
                else self._propose_boxes(heat, pseudo_label, heat_maps)
            )
            ways = {
                METHOD_CAM: Detections.from_proposals(own, box),
                METHOD_BRIGHTEST_BLOB: Detections.from_proposals(blob, box),
                METHOD_WEIGHTED_BLOB: Detections.from_proposals(
                    weight_by_probability(blob, pseudo_label.probability), box
                ),
            }
            if (
                pseudo_label.has_cam or not pseudo_label.predicted_positive
            ):  # else max_images left it out, and the pipeline has no result
                ways[METHOD_PIPELINE] = (
                    Detections.from_proposals(own, box, mask)
                    if pseudo_label.predicted_positive
                    else Detections()
                )
            ways |= {
                f"{METHOD_RANDOM_WEIGHTS} {seed}": Detections.from_proposals(
                    self._propose_boxes(each[i], pseudo_label, heat_maps), box
                )
                for seed, each in enumerate(random)
            }
            self.image_stats.append(
                {name: compute_image_stats(truth, way, self.rules) for name, way in ways.items()}
            )

    def _propose_boxes(
        self, heat: np.ndarray, pseudo_label: PseudoLabel, heat_maps: ClassActivationMaps
    ) -> Proposals:
        box = pseudo_label.info.letterbox
        return weight_by_probability(
            self._boxes(heat_maps.upsample(heat, box.canvas), box.content), pseudo_label.probability
        )

    def compute(self, image_stats: Sequence[dict[str, ImageStats]]) -> LocalizationReport | None:
        """Compute the scores of all images; None if no lesion is known.

        Args:
            image_stats: Statistics from all processes, in the order of the table.
        """
        if not any(each[METHOD_CAM].n_lesions for each in image_stats):
            return None
        random = [
            LocalizationResults.from_images(
                [each[f"{METHOD_RANDOM_WEIGHTS} {seed}"] for each in image_stats], has_masks=False
            )
            for seed in range(self._randomized_networks.n_networks)
        ]
        seen = {
            METHOD_CAM: LocalizationResults.from_images(
                [each[METHOD_CAM] for each in image_stats], has_masks=False
            ),
            METHOD_PIPELINE: LocalizationResults.from_images(
                [each[METHOD_PIPELINE] for each in image_stats if METHOD_PIPELINE in each]
            ),
            METHOD_RANDOM_WEIGHTS: LocalizationResults.pool(random),
            METHOD_BRIGHTEST_BLOB: LocalizationResults.from_images(
                [each[METHOD_BRIGHTEST_BLOB] for each in image_stats], has_masks=False
            ),
            METHOD_WEIGHTED_BLOB: LocalizationResults.from_images(
                [each[METHOD_WEIGHTED_BLOB] for each in image_stats], has_masks=False
            ),
        }
        found = {name: estimate_scores(way, self.rules) for name, way in seen.items()}
        gaps = {
            name: baseline_differences(seen[METHOD_CAM], seen[name], self.rules, COMPARED_SCORES)
            for name in (METHOD_RANDOM_WEIGHTS, METHOD_BRIGHTEST_BLOB, METHOD_WEIGHTED_BLOB)
        }
        compared = {
            name: found[name][HEADLINE_SCORE]
            for name in (METHOD_RANDOM_WEIGHTS, METHOD_BRIGHTEST_BLOB)
        }
        figures = {
            "FROC": plot_froc(seen, found, self.rules),
            "Lesions hit by the first boxes": plot_hit_rates(found, self.rules),
        }
        plain = {
            name: {score: asdict(gap) for score, gap in each.items()} for name, each in gaps.items()
        }
        return LocalizationReport(
            to_table(found),
            plain,
            summary_sentence(
                found[METHOD_CAM][HEADLINE_SCORE],
                compared,
                {name: gaps[name][HEADLINE_SCORE] for name in compared},
            ),
            figures,
        )


def weight_by_probability(proposals: Proposals, probability: float) -> Proposals:
    """Score boxes by the image's probability times the height of their peak."""
    return Proposals(proposals.boxes, proposals.peaks, proposals.heights * probability)
