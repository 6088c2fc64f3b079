"""Test images of do=bundle: files where a sample is one, else the decoded image; same pixels."""

import numpy as np
import pandas as pd
from PIL import Image

from datamodules.folder import FolderDataModule
from datamodules.formats.gray_levels import SourceImage
from datamodules.image_size import ImageSize
from datamodules.manifest.manifest import Manifest
from deployment.inference import Preprocessing
from engine.bundle import iterate_test_images
from tests.factories.optional import import_optional
from tests.factories.trained_run import write_images

SIDE = ImageSize(32, 32)
GIVEN = Preprocessing(image_size=SIDE, cache_size=SIDE, channels=1)


class CroppedImages(FolderDataModule):
    """Two views of one image: the whole of it, and a square that reaches over its border."""

    def manifest(self):
        rows = {"id": ["whole", "square"], "image": [str(self.root / "image0.png")] * 2}
        crops = pd.Series([None, [-5, 10, 30]], dtype=object)
        return Manifest(pd.DataFrame(rows).assign(crop=crops), ("a",))


class ImageAnnotatedAsStored(FolderDataModule):
    """An image that viewers turn, whose annotation has the size of the stored one."""

    def manifest(self):
        rows = {"id": ["a"], "image": [str(self.root / "turned.png")]}
        return Manifest(pd.DataFrame(rows | {"height": [40], "width": [60]}), ("a",))


def prepared(kind, folder, **more):
    return kind(
        classes=["a"], root=folder / "images", cache_dir=folder / "cache", image_size=32, **more
    )


def as_bundle_sees(image, given=GIVEN):
    source = image.source if isinstance(image.source, SourceImage) else given.read(image.source)
    assert source.pixels.shape[:2] == image.size
    return given.to_canvas(source)


def test_a_crop_is_compared_as_an_array(tmp_path):
    write_images(tmp_path / "images", [(40, 60)])
    data = prepared(CroppedImages, tmp_path)
    whole, square = iterate_test_images(data)
    assert whole.source == tmp_path / "images/image0.png" and whole.size == (40, 60)
    assert isinstance(square.source, SourceImage) and square.size == (30, 30)
    for image in (whole, square):
        assert np.array_equal(as_bundle_sees(image), image.canvas)


def test_slices_of_a_volume_are_compared_as_arrays(tmp_path):
    sitk = import_optional("SimpleITK")
    write_images(tmp_path / "images", [(40, 60)])
    volume = np.random.default_rng(0).integers(0, 900, (3, 20, 30)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(volume), str(tmp_path / "images/scan.nii.gz"))
    data = prepared(FolderDataModule, tmp_path, window=[0.0, 900.0])
    images = list(iterate_test_images(data))
    assert [isinstance(image.source, SourceImage) for image in images] == [False, True, True, True]
    given = Preprocessing(
        image_size=SIDE,
        cache_size=SIDE,
        channels=1,
        window=(0.0, 900.0),
        ignore_dicom_windows=True,
    )
    for image in images:
        assert np.array_equal(as_bundle_sees(image, given), image.canvas)


def test_an_image_that_is_kept_as_stored_is_compared_as_an_array(tmp_path):
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60), np.uint8)
    exif = Image.Exif()
    exif[274] = 6  # viewers turn the image
    Image.fromarray(pixels).save(tmp_path / "images/turned.png", exif=exif)

    data = prepared(ImageAnnotatedAsStored, tmp_path)
    (image,) = iterate_test_images(data)
    assert isinstance(image.source, SourceImage) and image.size == (40, 60)
    assert np.array_equal(pixels, image.source.pixels[..., 0])
    assert np.array_equal(as_bundle_sees(image), image.canvas)
