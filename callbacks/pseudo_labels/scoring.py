"""Scores where the chain points to, beside networks with random weights and the brightest blob, on images whose lesions are known."""

import copy
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
from torch import Tensor

from callbacks.pseudo_labels.baselines import BrightestBlobBaseline
from callbacks.pseudo_labels.boxes import PeakBoxes
from callbacks.pseudo_labels.chain import ImageInfo, PseudoLabel
from callbacks.pseudo_labels.compared import (
    COMPARED_SCORES,
    HEADLINE_SCORE,
    baseline_differences,
    summary_sentence,
)
from callbacks.pseudo_labels.grad_cam import ClassActivationMaps
from callbacks.pseudo_labels.localisation import estimate_scores, to_table
from callbacks.pseudo_labels.localisation_figures import plot_froc, plot_hit_rates
from callbacks.pseudo_labels.localisation_rules import LocalizationConfig
from callbacks.pseudo_labels.measured import ImageStats, LocalizationResults, compute_image_stats
from callbacks.pseudo_labels.proposals import Proposals
from callbacks.pseudo_labels.random_networks import WeightRandomizationBaseline, preprocess
from callbacks.pseudo_labels.rows import ImageLookup
from callbacks.pseudo_labels.scored import LocalizationReport
from callbacks.pseudo_labels.truth import Detections
from datamodules.arguments import Count, Positive, validated
from datamodules.base import ManifestDataModule
from datamodules.formats.rle import decode

CAM_METHOD, PIPELINE_METHOD, RANDOMIZED_METHOD, BLOB_METHOD = (
    "the heat maps",
    "the chain, above the threshold alone",
    "randomised weights",
    "the brightest blob",
)
WEIGHTED_BLOB_METHOD = "the brightest blob, weighed by the classifier"
LOCALIZATION_KEY = "callbacks.pseudo_labels.localisation"


@validated
class LocalizationScorer:
    """Measures one image after the other for all methods; the boxes of all of them are made alike.

    The pointing game asks every image with a lesion, whatever the classifier says of it. A box's
    score is the probability of its image times its peak; that of a random network has the trained
    one's probability, so that only the place is compared; the brightest blob is scored both ways.

    Args:
        split: Whose images are scored.
        random_networks: How many, each with other random weights; their mean is one baseline.
        blob_sigma: Of the Gaussian before the brightest blobs are looked for, in canvas pixels.
        rules: Of scoring.

    Raises:
        Refusal: no such split, no random network.
    """

    def __init__(
        self,
        split: Literal["train", "val", "test"],
        random_networks: Count,
        blob_sigma: Positive,
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
        """Draws the random networks, where lesions of the split are known.

        Args:
            module: The trained one; nothing listens to it yet.
            data: What will be looked at.
            lookup: Its images.
            boxes: How peaks become boxes.
        """
        self._lookup, self._active = (
            lookup,
            self.split in data.predict_splits and lookup.has_known_lesions(self.split),
        )
        self._boxes, self._brightest_blob.boxes = boxes, copy.copy(boxes)
        self._brightest_blob.boxes.threshold_rel = (
            0.0  # beside a full bladder nothing else would be left
        )
        self.image_stats = []
        if self._active:
            self._randomized_networks.initialize(module, data)

    def wants(self, info: ImageInfo) -> bool:
        """Whether an image is scored, and needs a heat map whatever its probability."""
        return self._active and info.split == self.split

    def update(
        self,
        module: Any,
        images: Tensor,
        pseudo_labels: Sequence[tuple[PseudoLabel, np.ndarray]],
        heat_maps: ClassActivationMaps,
        channel: int,
    ) -> None:
        """Measures the images of one batch.

        Args:
            module: The trained one.
            images: uint8 `B x C x H x W`.
            pseudo_labels: Of each image what the chain made of it, and its heat map, float32 `h x w`.
            heat_maps: Of which method and layers.
            channel: Of the logits.
        """
        random = self._randomized_networks.compute(preprocess(module, images), heat_maps, channel)
        greys = images.float().mean(1).round().byte().cpu().numpy()
        for i, (said, heat) in enumerate(pseudo_labels):
            truth, box = self._lookup.ground_truth(said.info.id), said.info.letterbox
            mask = (
                None
                if said.mask is None
                else decode([said.mask], truth.height, truth.width)[..., 0] > 0
            )
            blob = self._brightest_blob(greys[i], box.content)
            own = (
                weight_by_probability(said.proposals, said.probability)
                if said.has_cam
                else self._propose_boxes(heat, said, heat_maps)
            )
            ways = {
                CAM_METHOD: Detections.from_proposals(own, box),
                BLOB_METHOD: Detections.from_proposals(blob, box),
                WEIGHTED_BLOB_METHOD: Detections.from_proposals(
                    weight_by_probability(blob, said.probability), box
                ),
            }
            if (
                said.has_cam or not said.predicted_positive
            ):  # else max_images left it out, and nothing can be said of the chain
                ways[PIPELINE_METHOD] = (
                    Detections.from_proposals(own, box, mask)
                    if said.predicted_positive
                    else Detections()
                )
            ways |= {
                f"{RANDOMIZED_METHOD} {seed}": Detections.from_proposals(
                    self._propose_boxes(each[i], said, heat_maps), box
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
        """The scores of all images; None where no lesion is known.

        Args:
            image_stats: Of all processes, in the order of the table.
        """
        if not any(each[CAM_METHOD].n_lesions for each in image_stats):
            return None
        random = [
            LocalizationResults.from_images(
                [each[f"{RANDOMIZED_METHOD} {seed}"] for each in image_stats], has_masks=False
            )
            for seed in range(self._randomized_networks.n_networks)
        ]
        seen = {
            CAM_METHOD: LocalizationResults.from_images(
                [each[CAM_METHOD] for each in image_stats], has_masks=False
            ),
            PIPELINE_METHOD: LocalizationResults.from_images(
                [each[PIPELINE_METHOD] for each in image_stats if PIPELINE_METHOD in each]
            ),
            RANDOMIZED_METHOD: LocalizationResults.pool(random),
            BLOB_METHOD: LocalizationResults.from_images(
                [each[BLOB_METHOD] for each in image_stats], has_masks=False
            ),
            WEIGHTED_BLOB_METHOD: LocalizationResults.from_images(
                [each[WEIGHTED_BLOB_METHOD] for each in image_stats], has_masks=False
            ),
        }
        found = {name: estimate_scores(way, self.rules) for name, way in seen.items()}
        gaps = {
            name: baseline_differences(seen[CAM_METHOD], seen[name], self.rules, COMPARED_SCORES)
            for name in (RANDOMIZED_METHOD, BLOB_METHOD, WEIGHTED_BLOB_METHOD)
        }
        heads = {name: found[name][HEADLINE_SCORE] for name in (RANDOMIZED_METHOD, BLOB_METHOD)}
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
                found[CAM_METHOD][HEADLINE_SCORE],
                heads,
                {name: gaps[name][HEADLINE_SCORE] for name in heads},
            ),
            figures,
        )


def weight_by_probability(proposals: Proposals, probability: float) -> Proposals:
    """Boxes scored by the image's probability times the height of their peak."""
    return Proposals(proposals.boxes, proposals.peaks, proposals.heights * probability)
