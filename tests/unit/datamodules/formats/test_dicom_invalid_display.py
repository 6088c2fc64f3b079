"""Tests of DICOM windows and rescalings that leave no picture: refused with element and value."""

import numpy as np
import pytest

from datamodules.errors import ManifestError
from tests.unit.datamodules.formats.conftest import RAMP, read_dicom

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning"
)  # pydicom about the values written here

WRONG = {
    "center NaN": (
        {"WindowCenter": "NaN", "WindowWidth": "100"},
        "WindowCenter=nan, which is not a finite number",
    ),
    "center inf": ({"WindowCenter": "inf", "WindowWidth": "100"}, "WindowCenter=inf, which"),
    "width NaN": ({"WindowCenter": "50", "WindowWidth": "nan"}, "WindowWidth=nan, which"),
    "width -inf": ({"WindowCenter": "50", "WindowWidth": "-inf"}, "WindowWidth=-inf, which"),
    "width negative": (
        {"WindowCenter": "50", "WindowWidth": "-100"},
        "WindowWidth=-100, which is negative",
    ),
    "first width negative": (
        {"WindowCenter": ["50", "40"], "WindowWidth": ["-100", "100"]},
        "WindowWidth=-100, which is negative",
    ),
    "slope NaN": ({"RescaleSlope": "NaN", "RescaleIntercept": "0"}, "RescaleSlope=nan, which"),
    "slope inf": ({"RescaleSlope": "inf", "RescaleIntercept": "0"}, "RescaleSlope=inf, which"),
    "intercept NaN": (
        {"RescaleSlope": "1", "RescaleIntercept": "nan"},
        "RescaleIntercept=nan, which",
    ),
    "intercept inf": (
        {"RescaleSlope": "1", "RescaleIntercept": "-inf"},
        "RescaleIntercept=-inf, which",
    ),
    "slope too large for a pixel": (
        {"RescaleSlope": "1e39", "RescaleIntercept": "0"},
        r"RescaleSlope=1e\+39, which",
    ),
    "rescaled pixels infinite": (
        {
            "RescaleSlope": "3e37",
            "RescaleIntercept": "0",
            "WindowCenter": "50",
            "WindowWidth": "100",
        },
        r"RescaleSlope=3e\+37 and RescaleIntercept=0, which make pixels that are not finite",
    ),
}


@pytest.mark.parametrize("bits", [8, 12])
@pytest.mark.parametrize("name", WRONG)
def test_what_shows_no_picture_is_refused(name, bits, dicom):
    elements, said = WRONG[name]
    path = dicom(bits=bits, **elements)
    with pytest.raises(
        ManifestError,
        match=rf"{path} has {said}.*; correct or delete that element, or take the file out",
    ) as refusal:
        read_dicom(path)
    assert "\n" not in str(refusal.value)


RIGHT = {
    "no window": {},
    "width 0 is none": {"WindowCenter": "50", "WindowWidth": "0"},
    "slope 0 is none": {"RescaleSlope": "0", "RescaleIntercept": "0"},
    "empty window": {"WindowCenter": "", "WindowWidth": ""},
    "negative center and intercept": {
        "WindowCenter": "-76",
        "WindowWidth": "48",
        "RescaleSlope": "1",
        "RescaleIntercept": "-100",
    },
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_shows_a_picture_is_as_it_was(name, dicom):
    expected = np.rint(RAMP * (255 / 47))
    assert np.array_equal(read_dicom(dicom(bits=12, **RIGHT[name])), expected)


def test_a_negative_slope_still_inverts(dicom):
    assert np.array_equal(
        read_dicom(dicom(bits=12, RescaleSlope="-1", RescaleIntercept="0")),
        np.rint((47 - RAMP) * (255 / 47)),
    )
