"""Configuration of a training epoch: image size, batch size and sampling weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

from datamodules.arguments import (
    ArgumentError,
    Fraction,
    NonNegativeFloat,
    PositiveFloat,
    config_dataclass,
    format_config_value,
)
from datamodules.image_size import ImageSize

SCORES_FILE = "cls_prob.csv"  # output of a pre-classifier, see hard_example_scores


def _check_any_positive(weights: Mapping[str, float]) -> Mapping[str, float]:
    """Refuse weights without any value above 0, because no row could be sampled."""
    if not any(weights.values()):
        raise ArgumentError(
            "",
            (),
            f"={format_config_value(weights)} must hold a number above 0, such as"
            " {1_q4: 0.8, 1_q1: 0.6}",
        )
    return weights


StrataWeights = Annotated[Mapping[str, NonNegativeFloat], AfterValidator(_check_any_positive)]


@config_dataclass
class SamplingConfig:
    """Sampling of the training rows in an epoch.

    Attributes:
        positive_fraction: Fraction of images with a lesion; None keeps that of the data.
        strata_weights: Sampling weight of the rows of each stratum, relative to others of their
            sign (positive or negative); None samples all rows equally.
        hard_threshold: Threshold of the pre-classifier's probability (`cls_prob`) that separates
            right from wrong predictions.
        hard_negative: Factor of the sampling weight of a negative above the threshold.
        hard_positive: Factor of the sampling weight of a positive below the threshold.
        hard_in_loss: True to multiply the loss of hard samples by the same factor.
        negative_fraction: Fraction of the train images without a lesion that are used, selected
            once by the seed; val and test keep all of theirs.
        oversample_positives: Sampling weight of an image with a lesion relative to one without.
    """

    positive_fraction: Fraction | None = None
    strata_weights: StrataWeights | None = None
    hard_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    hard_negative: PositiveFloat = 1.0
    hard_positive: PositiveFloat = 1.0
    hard_in_loss: bool = False
    negative_fraction: Fraction = 1.0
    oversample_positives: PositiveFloat = 1.0

    def __post_init__(self) -> None:
        if self.positive_fraction is not None and self.oversample_positives != 1.0:
            raise ArgumentError(
                "",
                ("positive_fraction",),
                f"={self.positive_fraction} already sets the number of positives; set"
                " oversample_positives=1.0 with it",
            )

    @property
    def uses_hard_examples(self) -> bool:
        """True if hard samples have another weight, so that `cls_prob` is needed."""
        return (self.hard_negative, self.hard_positive) != (1.0, 1.0)


@dataclass(frozen=True)
class EpochConfig:
    """Configuration of one training epoch.

    Attributes:
        image_size: Size of the network's input.
        batch_size: Images per step and device.
        batches: Number of steps; None takes as many full batches as possible without showing an
            image twice.
        positive_fraction: As in `SamplingConfig`.
        strata_weights: As in `SamplingConfig`.
    """

    image_size: ImageSize
    batch_size: int
    batches: int | None = None
    positive_fraction: float | None = None
    strata_weights: Mapping[str, float] | None = None
