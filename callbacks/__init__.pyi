from .checkpointing import BestCheckpoint, ResumableEarlyStopping, TopKCheckpoint
from .curriculum import Curriculum, CurriculumState
from .curriculum_stage import StageConfig
from .encoder_freezing import EncoderFreezing
from .feature_maps import FeatureMaps
from .graceful_shutdown import GracefulShutdown, RunInterrupted
from .hard_example_score_writer import HardExampleScoreWriter
from .lora_export import LoRAMergedExport
from .nonfinite_loss import StopOnNonFiniteLoss
from .optuna_pruning import OptunaPruning
from .prediction_writer import PredictionWriter
from .pseudo_label_writer import PseudoLabelWriter
from .report_writer import ReportContributor, ReportWriter
from .resource_monitor import ResourceMonitor
from .sampling_monitor import SamplingMonitor
from .threshold_search import ClassificationThresholdSearch, SegmentationThresholdSearch
from .weight_averaging import EMAWeightAverage, SWAWeightAverage

__all__ = [
    "BestCheckpoint",
    "ClassificationThresholdSearch",
    "Curriculum",
    "CurriculumState",
    "EMAWeightAverage",
    "EncoderFreezing",
    "FeatureMaps",
    "GracefulShutdown",
    "HardExampleScoreWriter",
    "LoRAMergedExport",
    "OptunaPruning",
    "PredictionWriter",
    "PseudoLabelWriter",
    "ReportContributor",
    "ReportWriter",
    "ResourceMonitor",
    "ResumableEarlyStopping",
    "RunInterrupted",
    "SWAWeightAverage",
    "SamplingMonitor",
    "SegmentationThresholdSearch",
    "StageConfig",
    "StopOnNonFiniteLoss",
    "TopKCheckpoint",
]
