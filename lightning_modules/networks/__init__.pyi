from .classification import build_classifier
from .encoder_config import EncoderConfig
from .frozen_backbone import FrozenBackboneClassifier, build_frozen_classifier
from .lora_config import AdapterConfig
from .segmentation import build_smp_network
from .upernet import UperNet

__all__ = [
    "AdapterConfig",
    "EncoderConfig",
    "FrozenBackboneClassifier",
    "UperNet",
    "build_classifier",
    "build_frozen_classifier",
    "build_smp_network",
]
