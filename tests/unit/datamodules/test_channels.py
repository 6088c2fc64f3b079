"""Tests of images of several channels: files, pages and frames, with a window for each."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from PIL import Image

from datamodules import augmentation
from datamodules.base import TrainedWindow
from datamodules.errors import ManifestError
from datamodules.formats.gray_levels import format_window
from datamodules.image_size import ImageSize, SampleKey
from datamodules.manifest.manifest import Manifest, read_manifest
from datamodules.own_data import OwnDataModule
from tests.factories.layouts import draw, five_pages, two_channels

NAMES = ["edema", "lesion"]


def own(root: Path, **more) -> OwnDataModule:
    words = {"image_size": [64, 32], "num_workers": 0, "evaluation_size": "native"} | more
    return OwnDataModule(root=str(root), cache_dir=str(root.parent / "cache"), **words)


@pytest.fixture
def files(tmp_path):
    (tmp_path / "data").mkdir()
    items = draw(size=(64, 32))
    two_channels(tmp_path / "data", items, NAMES)
    return tmp_path / "data", items


@pytest.fixture
def pages(tmp_path):
    (tmp_path / "data").mkdir()
    items = draw(size=(64, 32))
    five_pages(tmp_path / "data", items, NAMES)
    return tmp_path / "data", items


def sample(data: OwnDataModule, row: int):
    return data.dataset(True)[SampleKey(row, 0, 0, ImageSize(64, 32))]


def test_a_file_per_channel_with_a_window_per_channel(files):
    root, items = files
    data = own(root, channels=2)
    data.prepare_data()
    window = data.display_window()
    assert len(window) == 2 and window[0][1] > 100 * 150 and window[1][1] <= 3 * 255
    assert data.cache.images.dtype == np.uint16 and data.cache.deep.all()
    for row, item in enumerate(items):
        found = sample(data, row)
        values = [item.image * 100.0, (255 - item.image.astype(float)) * 3]
        for channel, (low, high) in enumerate(window):
            shown = ((values[channel] - low) / (high - low)).clip(0, 1) * 255
            assert np.array_equal(found["image"][channel].numpy(), np.rint(shown))
        masks = np.stack([item.labels == 1, item.labels == 2])
        assert np.array_equal(found["mask"].numpy(), masks)
        assert np.array_equal(found["truth"].numpy(), masks)


def test_a_window_that_is_given_is_that_of_all_channels(files):
    root, items = files
    data = own(root, channels=2, window=[0.0, 700.0])
    data.prepare_data()
    shown = (items[3].image * 100.0 / 700).clip(0, 1) * 255
    assert np.array_equal(sample(data, 3)["image"][0].numpy(), np.rint(shown))


def test_windows_are_those_of_the_checkpoint(files):
    root, _ = files
    data = own(root, channels=2)
    data.prepare_data()
    trained = data.current_window()
    again = TrainedWindow.from_state(trained.as_state)
    assert again == trained and again.window == data.display_window()
    assert format_window(((0.0, 1.5), (2.0, 3.0))) == "[[0,1.5],[2,3]]"


def test_eight_bits_beside_a_deep_channel(files):
    root, items = files
    for item in items:
        Image.fromarray(255 - item.image).save(root / "imagesTr" / f"{item.name}_0001.png")
    data = own(root, channels=2)
    data.prepare_data()
    low, high = data.display_window()[1]
    assert 0 <= low < high <= 255
    image = data.table.read_image(5, 2)
    assert np.array_equal(image.levels.maps[1].values(image.pixels[..., 1]), 255 - items[5].image)


def test_pages_of_a_tiff_are_channels(pages):
    root, items = pages
    data = own(root, channels=5, frame="channels")
    data.prepare_data()
    assert data.display_window() is None and data.cache.images.shape == (24, 64, 32, 5)
    for row, item in enumerate(items):
        image = sample(data, row)["image"].numpy()
        expected = [np.maximum(item.image.astype(int) - 20 * k, 0) for k in range(5)]
        assert np.array_equal(image, expected)


def test_frames_of_volumes_are_channels(tmp_path):
    rng = np.random.default_rng(0)
    for n in range(10):
        values = rng.integers(-300, 300, (4, 2, 64, 32)).astype(np.int16)
        labels = (values[0] > 250).astype(np.uint8)
        for of, array in (("images", values), ("masks", labels)):
            (tmp_path / "data" / of).mkdir(parents=True, exist_ok=True)
            parts = array if array.ndim == 4 else [array]
            parts = [SimpleITK.GetImageFromArray(each) for each in parts]
            image = SimpleITK.JoinSeries(parts) if len(parts) > 1 else parts[0]
            SimpleITK.WriteImage(image, str(tmp_path / "data" / of / f"v{n}.nii.gz"))
    data = own(tmp_path / "data", channels=4, frame="channels")
    data.prepare_data()
    assert len(data.table) == 20 and len(data.display_window()) == 4
    image = data.table.read_image(19, 4)
    found = [m.values(image.pixels[..., c]) for c, m in enumerate(image.levels.maps)]
    assert np.array_equal(found, values[:, 1])


def test_a_manifest_with_channels_is_written_and_read_again(files, tmp_path):
    data = own(files[0], channels=2)
    for name in ("m.csv", "m.json"):
        again = read_manifest(data.table.write(tmp_path / name))
        assert [again.channel_files(n) for n in range(24)] == [
            data.table.channel_files(n) for n in range(24)
        ]
        assert isinstance(again, Manifest) and again.has_own_channels


def other_size(root: Path) -> None:
    Image.fromarray(np.zeros((64, 33), np.uint16)).save(root / "imagesTr/case03_0001.png")


def test_files_of_another_number_or_size_are_refused(files):
    root, _ = files
    for channels in (1, 3):
        with pytest.raises(
            ManifestError,
            match=r"case00_0000\.png has 2 channels, one per file, and datamodule\.channels="
            rf"{channels}; set datamodule\.channels=2",
        ):
            own(root, channels=channels).prepare_data()
    other_size(root)
    with pytest.raises(ManifestError, match=r"case03_0001\.png is 64 x 33 pixels and .*_0000"):
        own(root, channels=2).prepare_data()
    (root / "imagesTr/case03_0001.png").unlink()
    with pytest.raises(ManifestError, match=r"case03_0000\.png has 1 channels, one per file"):
        own(root, channels=2).prepare_data()


def test_pages_of_another_number_are_refused(pages):
    root, _ = pages
    with pytest.raises(
        ManifestError, match=r"holds 5 frames, and datamodule\.channels=3; set .*=5"
    ):
        own(root, channels=3, frame="channels").prepare_data()
    with pytest.raises(ManifestError, match=r"case00\.tif is one image of one or three channels"):
        own(root, channels=5, frame=2).prepare_data()
    data = own(root, channels=1, frame=2)
    data.prepare_data()
    assert data.cache.images.shape[3] == 1


TRANSFORMS = {
    "flip": augmentation.HorizontalFlip(p=1.0),
    "affine": augmentation.Affine(degrees=20, scale=0.1, translate=0.1, p=1.0),
    "crop": augmentation.RandomResizedCrop(size=64),
    "elastic": augmentation.ElasticTransform(p=1.0),
    "grid": augmentation.GridDistortion(p=1.0),
    "blur": augmentation.GaussianBlur(p=1.0),
    "noise": augmentation.GaussNoise(p=1.0),
    "contrast": augmentation.RandomBrightnessContrast(p=1.0),
    "gamma": augmentation.RandomGamma(p=1.0),
    "clahe": augmentation.CLAHE(p=1.0),
    "dropout": augmentation.CoarseDropout(p=1.0),
}


@pytest.mark.parametrize("channels", [2, 4, 5, 9])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_change_all_channels_alike(name, channels):
    gray = np.random.default_rng(0).integers(0, 255, (64, 64, 1)).astype(np.uint8)
    mask = (gray > 100).astype(np.uint8)
    pipeline = augmentation.Pipeline({name: TRANSFORMS[name]})
    several = pipeline({"image": gray.repeat(channels, 2), "mask": mask}, 3)
    single = pipeline({"image": gray.copy(), "mask": mask}, 3)
    assert several["image"].shape == (64, 64, channels) and several["image"].dtype == np.uint8
    assert np.array_equal(several["mask"], single["mask"])
    if name != "noise":  # which is drawn for each channel
        difference = several["image"].astype(int) - single["image"]
        assert np.abs(difference).max() <= 5  # OpenCV interpolates several channels by other code
