from .dicom_objects import (
    ClassFinding,
    DicomAlgorithm,
    PropertyCodes,
    write_report,
    write_segmentation,
)
from .inference import InferencePipeline, Prediction
from .predictor import Predictor

__all__ = [
    "ClassFinding",
    "DicomAlgorithm",
    "InferencePipeline",
    "Prediction",
    "Predictor",
    "PropertyCodes",
    "write_report",
    "write_segmentation",
]
