"""Tests of DICOM files: shown as a viewer shows them, or refused in one sentence."""

import importlib
import shutil
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import (
    JPEG2000,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSLossless,
    RLELossless,
)

from datamodules.errors import ManifestError
from datamodules.formats import dicom as module
from datamodules.formats.dicom import read_dicom_size
from datamodules.formats.image_io import DEFAULT_READER, read_image
from tests.unit.datamodules.formats.conftest import RAMP, read_dicom

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning"
)  # pydicom about the junk written here


def jpeg(picture):
    return encapsulate([cv2.imencode(".jpg", picture)[1].tobytes()])


def smooth(side=64):
    return cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 256, (side, side), np.uint8), (0, 0), 4
    )


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_eight_bits_stay_as_they_are(dicom, syntax):
    path = dicom(syntax=syntax)
    pixels = read_dicom(path)
    assert (
        pixels.dtype == np.uint8
        and np.array_equal(pixels, RAMP)
        and read_dicom_size(path) == (6, 8)
    )
    assert np.array_equal(read_dicom(path, path.read_bytes()), RAMP)


def test_an_encapsulated_jpeg(dicom):
    picture = smooth()
    path = dicom(picture, syntax=JPEGBaseline8Bit, data=jpeg(picture))
    assert np.abs(read_dicom(path).astype(int) - picture).max() < 12
    twin = dicom(
        picture,
        syntax=JPEGBaseline8Bit,
        data=jpeg(255 - picture),
        name="twin.dcm",
        PhotometricInterpretation="MONOCHROME1",
    )
    assert np.abs(read_dicom(twin).astype(int) - read_dicom(path)).max() <= 2


def test_color_becomes_gray(dicom):
    color = np.stack([smooth(), smooth()[::-1], smooth().T], axis=-1)
    gray = cv2.cvtColor(color, cv2.COLOR_RGB2GRAY)
    assert np.array_equal(read_dicom(dicom(color)), gray)
    encoded = encapsulate([cv2.imencode(".jpg", color[..., ::-1])[1].tobytes()])
    path = dicom(
        color, syntax=JPEGBaseline8Bit, data=encoded, PhotometricInterpretation="YBR_FULL_422"
    )
    assert np.abs(read_dicom(path).astype(int) - gray).mean() < 3


def test_run_lengths_need_no_codec(dicom, tmp_path):
    dataset = dcmread(dicom())
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(tmp_path / "rle.dcm")
    assert np.array_equal(read_dicom(tmp_path / "rle.dcm"), RAMP)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"NumberOfFrames": 2, "data": RAMP.astype(np.uint8).tobytes() * 2},
            "holds 2 frames.*own file",
        ),
        ({"PixelData": None}, "no pixel data"),
        ({"Rows": None}, "holds no picture"),
        ({"Rows": 60000, "Columns": 60000}, "above the limit of 100,000,000 pixels"),
        ({"data": b"\0" * 20}, "truncated or damaged.*replace"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "palette"),
        ({"syntax": JPEG2000, "data": encapsulate([b"junk" * 20])}, "truncated or damaged"),
        ({"syntax": JPEGBaseline8Bit, "data": encapsulate([b"junk" * 20])}, "truncated or damaged"),
    ],
)
def test_what_is_not_one_picture_is_refused(dicom, change, sentence):
    path = dicom(**change)
    with pytest.raises(ManifestError, match=sentence) as error:
        read_dicom(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("syntax", "package"),
    [
        (JPEGLSLossless, "pylibjpeg-libjpeg"),
        (JPEGExtended12Bit, "pylibjpeg-libjpeg"),
        (HTJ2KLossless, "pylibjpeg-openjpeg"),
    ],
)
def test_a_missing_codec_is_named(dicom, syntax, package, monkeypatch):
    decoder = get_decoder(syntax)
    pillow = {
        name: decode for name, decode in decoder._available.items() if name == "pillow"
    }  # it reads only 8 bits of the second
    monkeypatch.setattr(decoder, "_available", pillow)
    path = dicom(bits=12, syntax=syntax, data=encapsulate([b"junk" * 20]))
    with pytest.raises(
        ManifestError, match=rf"codec is not installed; pip install 'pylibjpeg.*' '{package}"
    ):
        read_dicom(path)


def test_no_cut_gives_a_picture_and_none_gives_a_traceback(dicom):
    picture = smooth()
    for path in (
        dicom(bits=12),
        dicom(picture, syntax=JPEGBaseline8Bit, data=jpeg(picture), name="jpeg.dcm"),
    ):
        whole = path.read_bytes()
        for end in (0, 100, 131, 132, 140, 200, 300, len(whole) // 2, len(whole) - 40):
            with pytest.raises(ManifestError, match=path.name):
                read_dicom(path, whole[:end])


def test_noise_in_the_header_is_a_refusal_or_a_picture(dicom):
    whole = np.frombuffer(dicom(bits=12).read_bytes(), np.uint8)
    random = np.random.default_rng(0)
    for _ in range(200):
        noisy = whole.copy()
        noisy[random.integers(132, len(whole), 3)] = random.integers(0, 256, 3)
        try:
            assert read_dicom(Path("noisy.dcm"), noisy.tobytes()).dtype == np.uint8
        except ManifestError as error:
            assert "noisy.dcm" in str(error)


def test_images_are_dicoms_by_name_or_content(dicom, tmp_path):
    path = dicom()
    for name in ("image", "image.IMA", "image.png", "IMAGE.DCM"):
        other = tmp_path / name
        shutil.copy(path, other)
        assert DEFAULT_READER.read_size(other) == (6, 8) and read_image(other, 1).shape == (6, 8, 1)
        assert np.array_equal(
            read_image(other, 3, other.read_bytes()), np.repeat(RAMP[..., None], 3, axis=2)
        )


def test_a_png_called_dcm_or_a_missing_file_is_refused(tmp_path):
    png = tmp_path / "a.dcm"
    png.write_bytes(cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1].tobytes())
    for read in (lambda path: read_image(path, 1), DEFAULT_READER.read_size):
        with pytest.raises(ManifestError, match=r"a\.dcm is not a DICOM"):
            read(png)
        with pytest.raises(ManifestError, match="does not exist"):
            read(tmp_path / "nowhere.dcm")


def test_nothing_is_printed_about_what_a_user_cannot_mend(dicom):
    path = dicom(data=RAMP.astype(np.uint8).tobytes() + b"\0" * 6)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        _ = dcmread(path).pixel_array
        assert said and not said.clear()
        importlib.reload(module)  # silences at import, which pytest took back
        module.read_dicom(path, None, DEFAULT_READER)
    assert not said
