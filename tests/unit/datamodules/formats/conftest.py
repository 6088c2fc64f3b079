"""Small DICOM files for the format tests."""

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian

from datamodules.formats.image_io import read_image

RAMP = np.arange(6 * 8, dtype=np.uint16).reshape(6, 8)


def read_dicom(path, data=None):
    """Return a file's gray levels as if it were alone, `H x W`."""
    return read_image(path, 1, data)[..., 0]


@pytest.fixture
def dicom(tmp_path):
    """Write a DICOM of stored values or PixelData bytes; `elements` sets or drops further ones."""

    def write(
        stored=RAMP, bits=8, syntax=ExplicitVRLittleEndian, data=None, name="x.dcm", **elements
    ):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
        dataset.PatientName = "Doe^Jane"
        dataset.Rows, dataset.Columns = stored.shape[:2]
        dataset.SamplesPerPixel = 3 if stored.ndim == 3 else 1
        dataset.PhotometricInterpretation = "RGB" if stored.ndim == 3 else "MONOCHROME2"
        if stored.ndim == 3:
            dataset.PlanarConfiguration = 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = (
            8 if bits <= 8 else 16,
            bits,
            bits - 1,
        )
        dataset.PixelRepresentation = int(np.issubdtype(stored.dtype, np.signedinteger))
        order = ">" if syntax == ExplicitVRBigEndian else "<"
        dataset.PixelData = (
            data
            or stored.astype(
                f"{order}{'i' if dataset.PixelRepresentation else 'u'}{dataset.BitsAllocated // 8}"
            ).tobytes()
        )
        dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
        if syntax.is_encapsulated:
            dataset["PixelData"].is_undefined_length = True
        for keyword, value in elements.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
        dataset.save_as(tmp_path / name, enforce_file_format=True)
        return tmp_path / name

    return write
