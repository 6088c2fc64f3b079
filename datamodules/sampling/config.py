"""Plan of an epoch of training: image size, batch size, and how often rows are wanted."""

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

SCORES_FILE = "cls_prob.csv"  # of a pre-classifier, see hard_example_scores


def _check_any_positive(weights: Mapping[str, float]) -> Mapping[str, float]:
    """Refuse weights of which none is above 0, because no row could be sampled."""
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
    """The way an epoch samples the training rows.

    Attributes:
        positive_fraction: Share of images with a lesion; None leaves it to the data.
        strata_weights: How often a row of a stratum is wanted, relative to others of its sign
            (positive or negative); None wants all alike.
        hard_threshold: Threshold of the pre-classifier's probability (`cls_prob`) between right and
            wrong.
        hard_negative: How much more often a negative above it is wanted.
        hard_positive: How much more often a positive below it is wanted.
        hard_in_loss: True to weigh hard samples that much more in the loss too.
        negative_fraction: Share of train's images without lesion that are used at all, sampled once
            by the seed; val and test keep all of theirs.
        oversample_positives: How much more often an image with a lesion is wanted than one without.
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
                f"={self.positive_fraction} already says how many positives there are; take"
                " oversample_positives=1.0 with it",
            )

    @property
    def uses_hard_examples(self) -> bool:
        """True if hard samples are wanted more or less often, so that `cls_prob` is needed."""
        return (self.hard_negative, self.hard_positive) != (1.0, 1.0)


@dataclass(frozen=True)
class EpochConfig:
    """One epoch of training.

    Attributes:
        image_size: The network's input.
        batch_size: Images per step and device.
        batches: Steps; None for as many full batches as there can be without showing an image
            twice.
        positive_fraction: As `SamplingConfig`.
        strata_weights: As `SamplingConfig`.
    """

    image_size: ImageSize
    batch_size: int
    batches: int | None = None
    positive_fraction: float | None = None
    strata_weights: Mapping[str, float] | None = None
