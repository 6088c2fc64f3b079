from .comet_logger import PrivateCometLogger
from .logger import PrivateWandbLogger
from .metrics_csv import MetricsCsvLogger
from .mlflow_logger import PrivateMLFlowLogger

__all__ = [
    "MetricsCsvLogger",
    "PrivateCometLogger",
    "PrivateMLFlowLogger",
    "PrivateWandbLogger",
]
