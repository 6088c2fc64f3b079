from .bootstrap import bootstrap_metrics, paired_differences
from .evidence import (
    ClassificationEvidence,
    Evidence,
    SegmentationEvidence,
    read_evidence,
    write_evidence,
)
from .localization import LocalizationConfig
from .rule_modules import ClassificationRule, DecisionRule, SegmentationRule
from .threshold_objective import ThresholdObjective

__all__ = [
    "ClassificationEvidence",
    "ClassificationRule",
    "DecisionRule",
    "Evidence",
    "LocalizationConfig",
    "SegmentationEvidence",
    "SegmentationRule",
    "ThresholdObjective",
    "bootstrap_metrics",
    "paired_differences",
    "read_evidence",
    "write_evidence",
]
