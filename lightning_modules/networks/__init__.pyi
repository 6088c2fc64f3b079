from .classification import build_classifier
from .frozen_backbone import FrozenBackboneClassifier
from .lora_config import AdapterConfig
from .segmentation import build_smp_network
from .upernet import UperNet

__all__ = [
    "AdapterConfig",
    "FrozenBackboneClassifier",
    "UperNet",
    "build_classifier",
    "build_smp_network",
]
