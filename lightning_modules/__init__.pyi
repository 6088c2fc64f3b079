from .base import EvaluatedModule, SupervisedModule
from .classification import ClassificationModule
from .ensemble import Ensemble
from .instantiation import instantiate_config
from .losses import (
    BCELoss,
    ClassBalancedBCELoss,
    CrossEntropyLoss,
    DiceCrossEntropyLoss,
    DiceLoss,
    FocalLoss,
    LovaszHingeLoss,
    MulticlassFocalLoss,
    TverskyLoss,
    WeightedLoss,
)
from .optim import one_cycle, plateau, warmup_cosine
from .segmentation import SegmentationModule

__all__ = [
    "BCELoss",
    "ClassBalancedBCELoss",
    "ClassificationModule",
    "CrossEntropyLoss",
    "DiceCrossEntropyLoss",
    "DiceLoss",
    "Ensemble",
    "EvaluatedModule",
    "FocalLoss",
    "LovaszHingeLoss",
    "MulticlassFocalLoss",
    "SegmentationModule",
    "SupervisedModule",
    "TverskyLoss",
    "WeightedLoss",
    "instantiate_config",
    "one_cycle",
    "plateau",
    "warmup_cosine",
]
