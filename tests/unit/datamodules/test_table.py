"""Tests of tables: cropped masks train on squares of the images and stay out of val and test."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from datamodules.errors import ManifestError, UserError
from datamodules.image_size import SampleKey
from datamodules.loading.letterbox import Letterbox
from datamodules.manifest.leakage import make_thumbnail
from datamodules.manifest.manifest import read_manifest
from datamodules.table import TableDataModule
from tests.conftest import folder_hash

SPLITS = ["train"] * 6 + ["val"] * 3 + ["test"] * 3


def draw(root, number, positive, shape=(60, 80)):
    """An image of noise with a bright ellipse, and its mask's path or None."""
    image = np.random.default_rng(number).integers(0, 90, shape, np.uint8)
    mask = np.zeros(shape, np.uint8)
    if positive:
        cv2.ellipse(
            mask, (20 + 4 * number, 15 + 2 * number), (6 + number, 4 + number), 20, 0, 360, 255, -1
        )
        image[mask > 0] = 200
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
    Image.fromarray(image).save(root / "images" / f"{number}.png")
    return f"masks/{number}.png" if positive else None


@pytest.fixture
def root(tmp_path):
    """Twelve images with a meta JSON; every third has no lesion."""
    root = tmp_path / "data"
    for part in ("images", "masks", "crops"):
        (root / part).mkdir(parents=True)
    entries = [
        {
            "id": str(n),
            "image_path": f"images/{n}.png",
            "mask_path": draw(root, n, n % 3 > 0),
            "has_pnx": int(n % 3 > 0),
            "split": split,
        }
        for n, split in enumerate(SPLITS)
    ]
    (root / "meta.json").write_text(json.dumps(entries))
    return root


def change(root, number, **more):
    entries = json.loads((root / "meta.json").read_text())
    entries[number] |= more
    (root / "meta.json").write_text(json.dumps(entries))


def crop(root, number, square):
    """Gives an image a square crop and its mask."""
    top, left, side = square
    mask = np.zeros((200, 200), np.uint8)
    file = root / "masks" / f"{number}.png"
    if file.is_file():
        mask[60:120, 60:140] = np.asarray(Image.open(file))
    Image.fromarray(mask[60 + top : 60 + top + side, 60 + left : 60 + left + side]).save(
        root / "crops" / f"{number}.png"
    )
    change(root, number, crop=square, cropped_mask_path=f"crops/{number}.png")


def module(root, **more):
    words = {
        "manifest_name": "meta.json",
        "image_size": 64,
        "augmentation": None,
        "num_workers": 0,
    } | more
    return TableDataModule(root=str(root), cache_dir=str(root.parent / "cache"), **words)


def crop_all(root):
    for number in range(6):
        crop(root, number, [-10, 2, 45] if number == 1 else [5, 8, 40])


def test_train_shows_squares_and_the_rest_stays_whole(root):
    crop_all(root)
    before = folder_hash(root)
    data = module(root, mask_column="cropped_mask_path")
    data.prepare_data()
    assert data.cache.sizes[:].tolist() == [
        [45, 45] if n == 1 else [40, 40] if n < 6 else [60, 80] for n in range(12)
    ]
    image, mask = (np.asarray(Image.open(root / part / "1.png")) for part in ("images", "masks"))
    square, truth = np.zeros((45, 45), np.uint8), np.zeros((45, 45), np.uint8)
    square[10:], truth[10:] = (
        image[:35, 2:47],
        mask[:35, 2:47] > 127,
    )  # zeros above, where it reaches beyond the image
    assert np.array_equal(data.cache.truth(1, 1)[..., 0], truth) and truth.any()
    assert np.array_equal(
        data.cache.images[1, ..., 0], Letterbox(45, 45, 64).image(square[..., None])[..., 0]
    )
    assert np.array_equal(data.cache.thumbnails[1], make_thumbnail(square))
    assert (
        data.cache.truth(7, 1).sum()
        == (np.asarray(Image.open(root / "masks" / "7.png")) > 127).sum()
    )
    shown = data.dataset(evaluation=False)[SampleKey(1, 0, 0, 64)]
    assert shown["image"].shape == shown["mask"].shape == (1, 64, 64)
    assert folder_hash(root) == before


def test_whole_masks_are_the_default_and_their_cache_is_another(root):
    plain = module(root)
    plain.prepare_data()
    crop_all(root)
    whole, squares = module(root, near_duplicates="join"), module(root, mask_column="cropped_mask")
    for data in (whole, squares):
        data.prepare_data()
    assert "crop" not in whole.table.rows and whole.cache.sizes[:].tolist() == [[60, 80]] * 12
    assert whole.cache.folder == plain.cache.folder != squares.cache.folder


def test_a_moved_square_is_decoded_anew(root):
    crop_all(root)
    first = module(root, mask_column="cropped_mask").cache.folder
    change(root, 1, crop=[-10, 3, 45])
    assert module(root, mask_column="cropped_mask").cache.folder != first


def test_cropped_masks_may_be_whole_too(root):
    for number in (1, 2, 4, 5):
        change(root, number, cropped_mask_path=f"masks/{number}.png")
    data = module(root, mask_column="cropped_mask")
    data.prepare_data()
    assert (data.cache.areas[1] > 0).all() and data.cache.sizes[:].tolist() == [[60, 80]] * 12


def refused(root, **more):
    with pytest.raises(ManifestError) as said:
        module(root, **{"mask_column": "cropped_mask"} | more).prepare_data()
    assert "\n" not in str(said.value)
    return str(said.value)


def test_a_cropped_mask_outside_train_is_refused(root):
    crop_all(root)
    crop(root, 7, [0, 0, 40])
    said = refused(root)
    assert (
        "1 images of val or test have a cropped mask, such as '7' of val, which reveals where the"
        " lesion is" in said
    )
    assert said.endswith("crop only train with do=[crop], or set datamodule.mask_column=mask")
    module(root).prepare_data()


def test_squares_that_cannot_be_used_are_refused(root):
    assert "names no cropped masks" in refused(root)
    crop_all(root)
    change(root, 1, crop=None)
    assert (
        "cropped mask of '1' is 45 x 45 pixels and its image 60 x 80, and its crop is unknown"
        in refused(root)
    )
    change(root, 1, crop=[60, 0, 45])
    assert "crop [60, 0, 45]" in refused(root) and "lies outside its 60 x 80 pixels" in refused(
        root
    )
    change(root, 1, crop=[0, 0, 44])
    assert "is 44 x 44 pixels, but its annotation says 45 x 45" in refused(root)
    change(root, 1, cropped_mask_path=None)
    assert "1 train images with a lesion have no cropped mask, such as '1'" in refused(root)
    with pytest.raises(
        UserError,
        match=(
            r"mask_column=masks is not allowed; it must be mask, cropped_mask, .* .did you mean"
            r" mask"
        ),
    ):
        module(root, mask_column="masks")


def test_a_csv_may_name_squares_as_well(root):
    crop_all(root)
    read_manifest(root / "meta.json").write(root / "m.csv")
    data = module(root, manifest_name="m.csv", mask_column="cropped_mask")
    data.prepare_data()
    assert data.cache.sizes[:6].tolist() == [[40, 40], [45, 45]] + [[40, 40]] * 4
    text = (root / "m.csv").read_text()
    (root / "m.csv").write_text(text.replace("[-10, 2, 45]", "[-10, 2]"))
    assert "the crop of '1' is [-10, 2]; write" in refused(root, manifest_name="m.csv")


def test_the_listed_size_is_that_of_the_whole_image(root):
    crop_all(root)
    for number in range(12):
        change(root, number, height=60 if number != 1 else 40, width=80)
    assert "1.png is 60 x 80 pixels, but its annotation says 40 x 80" in refused(root)
    change(root, 1, height=60)
    module(root, mask_column="cropped_mask").prepare_data()


@pytest.mark.parametrize(
    ("break_it", "wrong"),
    [
        (
            lambda root: (root / "images" / "3.png").unlink(),
            "images/3.png, which is no file; paths are relative",
        ),
        (lambda root: (root / "masks" / "4.png").unlink(), "masks/4.png does not exist; restore"),
        (
            lambda root: Image.new("L", (20, 30), 255).save(root / "masks" / "4.png"),
            "4.png is 60 x 80 pixels, but its annotation says 30 x 20",
        ),
    ],
)
def test_missing_and_wrong_files_are_refused(root, break_it, wrong):
    break_it(root)
    assert wrong in refused(root, mask_column="mask")
