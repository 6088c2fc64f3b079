from .boxes import PeakBoxes
from .cam import ClassActivationMaps
from .localization_scorer import LocalizationScorer
from .pipeline import PseudoLabelPipeline
from .quality import QualityFilter

__all__ = [
    "ClassActivationMaps",
    "LocalizationScorer",
    "PeakBoxes",
    "PseudoLabelPipeline",
    "QualityFilter",
]
