"""Images that scikit-image and pydicom bring along: read as by other libraries, or refused."""

import re
from pathlib import Path

import numpy as np
import pydicom
import skimage
from PIL import Image

from datamodules.errors import ManifestError
from datamodules.formats.image_files import image_files
from datamodules.formats.image_io import ImageReader

SKIMAGE = Path(skimage.__file__).parent / "data"
PYDICOM = Path(pydicom.__file__).parent / "data" / "test_files"
SENTENCE = re.compile(r"^/.+\.\w+ .+")


def test_images_of_scikit_image_are_those_of_pillow():
    read, refused = 0, []
    for path in image_files(SKIMAGE):
        try:
            found = ImageReader().read(path, 3)
        except ManifestError as error:
            refused.append((path.name, str(error)))
            continue
        read += 1
        with Image.open(path) as image:
            plain = image.mode in ("L", "RGB", "P", "1") and not image.has_transparency_data
            expected = np.asarray(image.convert("RGB"))
        assert found.pixels.shape == (*expected.shape[:2], 3)
        plain &= not found.levels.deep  # Pillow keeps 8 of the 16 bits of a color
        assert not plain or np.array_equal(found.pixels, expected), path.name
    assert read >= 20
    assert {name for name, _ in refused} <= {
        "multipage.tif",
        "multipage_rgb.tif",
        "no_time_for_that_tiny.gif",
    }
    assert all(SENTENCE.match(message) and "\n" not in message for _, message in refused)


def test_dicoms_of_pydicom_are_read_or_refused_with_a_sentence():
    read = 0
    for path in image_files(PYDICOM):
        try:
            shown = ImageReader().read(path, 1).to_uint8(None)
        except ManifestError as error:
            assert SENTENCE.match(str(error)) and "\n" not in str(error), error
            continue
        dataset = pydicom.dcmread(path, force=True)
        assert shown.shape == (dataset.Rows, dataset.Columns, 1)
        read += 1
    assert read >= 70
