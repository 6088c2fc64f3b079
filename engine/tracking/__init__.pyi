from .comet_logger import PrivateCometLogger
from .logger import PrivateWandbLogger
from .mlflow_logger import PrivateMLFlowLogger

__all__ = [
    "PrivateCometLogger",
    "PrivateMLFlowLogger",
    "PrivateWandbLogger",
]
