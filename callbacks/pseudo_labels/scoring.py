"""Scores where the chain points to, beside networks with random weights and the brightest blob, on images whose lesions are known."""

import copy
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
from torch import Tensor

from callbacks.pseudo_labels.baselines import BrightestBlob
from callbacks.pseudo_labels.boxes import PeakBoxes, Proposals
from callbacks.pseudo_labels.chain import Known, Labelled
from callbacks.pseudo_labels.compared import COMPARED, HEAD, differences, verdict
from callbacks.pseudo_labels.grad_cam import HeatMaps
from callbacks.pseudo_labels.localisation import as_table, estimates
from callbacks.pseudo_labels.localisation_figures import froc_figure, hit_rate_figure
from callbacks.pseudo_labels.localisation_rules import LocalisationRules
from callbacks.pseudo_labels.measured import Localised, Measured, measure
from callbacks.pseudo_labels.random_networks import RandomNetworks, as_given
from callbacks.pseudo_labels.rows import Rows
from callbacks.pseudo_labels.scored import Scored
from callbacks.pseudo_labels.truth import Said
from datamodules.arguments import Count, Positive, validated
from datamodules.base import ManifestDataModule
from datamodules.formats.rle import decode

NETWORK, CHAIN, RANDOM, BLOB = (
    "the heat maps",
    "the chain, above the threshold alone",
    "randomised weights",
    "the brightest blob",
)
WEIGHED = "the brightest blob, weighed by the classifier"
KEY = "callbacks.pseudo_labels.localisation"


@validated
class Localisation:
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
        rules: LocalisationRules,
    ) -> None:
        self.split, self.rules = split, rules
        self._random, self._blob = RandomNetworks(random_networks), BrightestBlob(blob_sigma)
        self.measured: list[dict[str, Measured]] = []

    def begin(self, module: Any, data: ManifestDataModule, rows: Rows, boxes: PeakBoxes) -> None:
        """Draws the random networks, where lesions of the split are known.

        Args:
            module: The trained one; nothing listens to it yet.
            data: What will be looked at.
            rows: Its images.
            boxes: How peaks become boxes.
        """
        self._rows, self._active = (
            rows,
            self.split in data.predict_splits and rows.has_lesions(self.split),
        )
        self._boxes, self._blob.boxes = boxes, copy.copy(boxes)
        self._blob.boxes.at_least = 0.0  # beside a full bladder nothing else would be left
        self.measured = []
        if self._active:
            self._random.begin(module, data)

    def asks(self, known: Known) -> bool:
        """Whether an image is scored, and needs a heat map whatever its probability."""
        return self._active and known.split == self.split

    def look(
        self,
        module: Any,
        images: Tensor,
        found: Sequence[tuple[Labelled, np.ndarray]],
        heat_maps: HeatMaps,
        channel: int,
    ) -> None:
        """Measures the images of one batch.

        Args:
            module: The trained one.
            images: uint8 `B x C x H x W`.
            found: Of each image what the chain made of it, and its heat map, float32 `h x w`.
            heat_maps: Of which method and layers.
            channel: Of the logits.
        """
        random = self._random.heats(as_given(module, images), heat_maps, channel)
        greys = images.float().mean(1).round().byte().cpu().numpy()
        for i, (said, heat) in enumerate(found):
            truth, box = self._rows.truth(said.known.id), said.known.letterbox
            mask = (
                None
                if said.mask is None
                else decode([said.mask], truth.height, truth.width)[..., 0] > 0
            )
            blob = self._blob(greys[i], box.content)
            own = (
                weighed(said.found, said.probability)
                if said.mapped
                else self._proposals(heat, said, heat_maps)
            )
            ways = {
                NETWORK: Said.of(own, box),
                BLOB: Said.of(blob, box),
                WEIGHED: Said.of(weighed(blob, said.probability), box),
            }
            if (
                said.mapped or not said.called
            ):  # else max_images left it out, and nothing can be said of the chain
                ways[CHAIN] = Said.of(own, box, mask) if said.called else Said()
            ways |= {
                f"{RANDOM} {seed}": Said.of(self._proposals(each[i], said, heat_maps), box)
                for seed, each in enumerate(random)
            }
            self.measured.append(
                {name: measure(truth, way, self.rules) for name, way in ways.items()}
            )

    def _proposals(self, heat: np.ndarray, said: Labelled, heat_maps: HeatMaps) -> Proposals:
        box = said.known.letterbox
        return weighed(
            self._boxes(heat_maps.enlarged(heat, box.canvas), box.content), said.probability
        )

    def scored(self, measured: Sequence[dict[str, Measured]]) -> Scored | None:
        """The scores of all images; None where no lesion is known.

        Args:
            measured: Of all processes, in the order of the table.
        """
        if not any(each[NETWORK].lesions for each in measured):
            return None
        random = [
            Localised.of([each[f"{RANDOM} {seed}"] for each in measured], masks=False)
            for seed in range(self._random.number)
        ]
        seen = {
            NETWORK: Localised.of([each[NETWORK] for each in measured], masks=False),
            CHAIN: Localised.of([each[CHAIN] for each in measured if CHAIN in each]),
            RANDOM: Localised.pooled(random),
            BLOB: Localised.of([each[BLOB] for each in measured], masks=False),
            WEIGHED: Localised.of([each[WEIGHED] for each in measured], masks=False),
        }
        found = {name: estimates(way, self.rules) for name, way in seen.items()}
        gaps = {
            name: differences(seen[NETWORK], seen[name], self.rules, COMPARED)
            for name in (RANDOM, BLOB, WEIGHED)
        }
        heads = {name: found[name][HEAD] for name in (RANDOM, BLOB)}
        figures = {
            "FROC": froc_figure(seen, found, self.rules),
            "Lesions hit by the first boxes": hit_rate_figure(found, self.rules),
        }
        plain = {
            name: {score: asdict(gap) for score, gap in each.items()} for name, each in gaps.items()
        }
        return Scored(
            as_table(found),
            plain,
            verdict(found[NETWORK][HEAD], heads, {name: gaps[name][HEAD] for name in heads}),
            figures,
        )


def weighed(found: Proposals, probability: float) -> Proposals:
    """Boxes scored by the image's probability times the height of their peak."""
    return Proposals(found.boxes, found.peaks, found.heights * probability)
