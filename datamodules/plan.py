"""What holds in one epoch of training: how large the images are, how many a batch, and which rows are wanted how often."""

from collections.abc import Mapping
from dataclasses import dataclass

from datamodules.refusal import Refusal
from datamodules.sample import Canvas


@dataclass(frozen=True)
class Sampling:
    """Which training rows an epoch shows, and how often.

    Attributes:
        positive_fraction: Share of images with a lesion; None leaves it to the data.
        strata_weights: How often a row of a stratum is wanted, relative to others of its sign (positive or negative); None wants all alike.
        hard_at: Probability of the pre-classifier (`cls_prob`) that divides right from wrong.
        hard_negative: How much more often a negative above it is wanted.
        hard_positive: How much more often a positive below it is wanted.
        hard_in_loss: Whether hard samples weigh that much more in the loss too.
        keep_negatives: Share of train's images without lesion that are used at all, drawn once by the seed; val and test keep all of theirs.
        oversample_positives: How much more often an image with a lesion is wanted than one without.
    """

    positive_fraction: float | None = None
    strata_weights: Mapping[str, float] | None = None
    hard_at: float = 0.5
    hard_negative: float = 1.0
    hard_positive: float = 1.0
    hard_in_loss: bool = False
    keep_negatives: float = 1.0
    oversample_positives: float = 1.0

    def __post_init__(self) -> None:
        refuse_rates(self.positive_fraction, self.strata_weights, "datamodule.sampling")
        for name in ("hard_negative", "hard_positive", "oversample_positives"):
            if not (isinstance(getattr(self, name), int | float) and getattr(self, name) > 0):
                raise Refusal(f"datamodule.sampling.{name}={getattr(self, name)} must be a number above 0; 1.0 changes nothing")
        if not (isinstance(self.keep_negatives, int | float) and 0 <= self.keep_negatives <= 1):
            raise Refusal(f"datamodule.sampling.keep_negatives={self.keep_negatives} is no share of them; take a number from 0 to 1, 1.0 for all")
        if self.positive_fraction is not None and self.oversample_positives != 1.0:
            raise Refusal("datamodule.sampling.positive_fraction already says how many positives there are; take oversample_positives=1.0 with it")
        if not (isinstance(self.hard_at, int | float) and 0 < self.hard_at < 1):
            raise Refusal(f"datamodule.sampling.hard_at={self.hard_at} is no probability between 0 and 1; take 0.5")

    @property
    def boosts(self) -> bool:
        """Whether hard samples are treated otherwise, so that `cls_prob` is needed."""
        return (self.hard_negative, self.hard_positive) != (1.0, 1.0)


@dataclass(frozen=True)
class Plan:
    """One epoch of training.

    Attributes:
        image_size: The network's input.
        batch_size: Images a step and device.
        batches: Steps; None for as many full batches as can be drawn without showing an image twice.
        positive_fraction: As `Sampling`.
        strata_weights: As `Sampling`.
    """

    image_size: Canvas
    batch_size: int
    batches: int | None = None
    positive_fraction: float | None = None
    strata_weights: Mapping[str, float] | None = None


def refuse_rates(positive_fraction: float | None, strata_weights: Mapping[str, float] | None, where: str) -> None:
    """Refuses what can be wanted of no data set.

    Raises:
        Refusal: names the key.
    """
    if positive_fraction is not None and not (isinstance(positive_fraction, int | float) and 0 <= positive_fraction <= 1):
        raise Refusal(f"{where}.positive_fraction={positive_fraction} is no share; take a number from 0 to 1, or null for the data's own")
    if strata_weights is None:
        return
    numbers = list(strata_weights.values()) if isinstance(strata_weights, Mapping) else []
    if not numbers or not all(isinstance(number, int | float) and number >= 0 for number in numbers) or max(numbers) <= 0:
        raise Refusal(f"{where}.strata_weights={strata_weights} must give numbers from 0 on, one of them above 0, such as {{1_q4: 0.8, 1_q1: 0.6}}")
