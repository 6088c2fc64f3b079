"""What scoring the localisation gives, and what scores nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from callbacks.pseudo_labels.chain import ImageInfo


@dataclass(frozen=True)
class LocalizationReport:
    """What was found.

    Attributes:
        table: Method -> score -> value, low, high, n, definition, ...
        differences: Baseline -> score -> the heat maps minus it, with its interval.
        summary: Whether the heat maps point better than the baselines, in a sentence.
        figures: Title -> SVG.
    """

    table: dict[str, Any]
    differences: dict[str, Any]
    summary: str
    figures: dict[str, str]


class NullScorer:
    """Scores nothing."""

    image_stats: ClassVar[list[Any]] = []

    def reset(self, *_: Any) -> None:
        """Nothing to draw."""

    def wants(self, info: ImageInfo) -> bool:
        """No image is scored."""
        return False

    def update(self, *_: Any) -> None:
        """Nothing to measure."""

    def compute(self, image_stats: Sequence[Any]) -> None:
        """Nothing was."""
