from .dicom_objects import (
    ClassFinding,
    DicomAlgorithm,
    PropertyCodes,
    write_report,
    write_segmentation,
)

__all__ = [
    "ClassFinding",
    "DicomAlgorithm",
    "PropertyCodes",
    "write_report",
    "write_segmentation",
]
