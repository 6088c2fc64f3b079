"""Tests of converting stored DICOM values to the gray levels of a viewer."""

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.unit.datamodules.formats.conftest import RAMP, read_dicom


def lut(entries, first, bits):
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item.LUTData = np.asarray(entries, "<u2").tobytes()
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
    return Sequence([item])


def test_eight_bits_in_a_wider_word_stay_too(dicom):
    assert np.array_equal(
        read_dicom(dicom(bits=8, BitsAllocated=16, data=RAMP.astype("<u2").tobytes())), RAMP
    )


def test_deeper_values_are_scaled_by_their_own_range(dicom):
    pixels = read_dicom(dicom(RAMP * 50 + 300, bits=12))
    assert np.array_equal(pixels, np.rint(RAMP * (255 / 47)))


def test_a_window_as_the_standard_writes_it(dicom):
    stored = np.array([[0, 1999, 2000, 2049, 2050, 2099, 2100, 4095]], np.uint16)
    pixels = read_dicom(
        dicom(stored, bits=12, WindowCenter=["2050", "7"], WindowWidth=["101", "9"])
    )
    expected = ((stored.astype(float) - 2049.5) / 100 + 0.5).clip(0, 1) * 255
    assert np.abs(pixels - expected).max() <= 0.5 and pixels[0, [0, 1, -2, -1]].tolist() == [
        0,
        0,
        255,
        255,
    ]


@pytest.mark.parametrize(
    ("function", "shown"), [("LINEAR_EXACT", 191), ("SIGMOID", 186), ("LINEAR", 193)]
)
def test_the_window_s_function(dicom, function, shown):
    stored = np.array([[100, 125]], np.uint16)  # 25 above the center of a window of 100
    assert (
        read_dicom(
            dicom(stored, bits=12, WindowCenter="100", WindowWidth="100", VOILUTFunction=function)
        )[0, 1]
        == shown
    )


def test_the_window_counts_rescaled_values(dicom):
    stored = np.array([[0, 500, 1000, 1500]], np.int16)
    pixels = read_dicom(
        dicom(
            stored,
            bits=16,
            RescaleSlope="2",
            RescaleIntercept="-1000",
            WindowCenter="0.5",
            WindowWidth="2001",
        )
    )
    assert pixels.tolist() == [[0, 128, 255, 255]]


def test_a_negative_slope_turns_the_order(dicom):
    assert np.array_equal(
        read_dicom(dicom(RAMP, RescaleSlope="-1", RescaleIntercept="47")),
        np.rint((47 - RAMP) * (255 / 47)),
    )


def test_lookup_tables(dicom):
    stored = np.array([[0, 9, 10, 11, 12, 900]], np.uint16)
    modality = read_dicom(dicom(stored, bits=12, ModalityLUTSequence=lut([0, 10, 20], 10, 16)))
    assert modality.tolist() == [[0, 0, 0, 128, 255, 255]]
    voi = read_dicom(
        dicom(
            stored,
            bits=12,
            VOILUTSequence=lut([0, 512, 1023], 10, 10),
            WindowCenter="1",
            WindowWidth="2",
        )
    )
    assert voi.tolist() == [[0, 0, 0, 128, 255, 255]]


@pytest.mark.parametrize("bits", [8, 12])
def test_monochrome1_is_inverted_behind_the_window(dicom, bits):
    window = {"WindowCenter": "20", "WindowWidth": "21"}
    twin = dicom(bits=bits, name="twin.dcm", PhotometricInterpretation="MONOCHROME1", **window)
    assert np.array_equal(read_dicom(twin), 255 - read_dicom(dicom(bits=bits, **window)))
