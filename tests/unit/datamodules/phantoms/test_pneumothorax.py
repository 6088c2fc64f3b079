"""Tests of pneumothorax phantoms: anatomy, area, brightness baseline and equal layouts."""

import csv

import cv2
import numpy as np
import pydicom
import pytest

from datamodules.errors import UserError
from datamodules.formats import rle
from datamodules.phantoms import pneumothorax
from datamodules.phantoms.chest_anatomy import ChestRenderer
from datamodules.phantoms.chest_findings import draw_pneumothorax, sample_area, sample_patient

IMAGES, SIZE = 90, 112


def draw(seed, area, size=SIZE, confounders=True):
    random = np.random.default_rng(seed)
    return draw_pneumothorax(random, size, size, sample_patient(random), area, confounders)


def table(path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def gray(path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pneumothorax")
    for layout in pneumothorax.LAYOUT_WRITERS:
        pneumothorax.write(folder / layout, images=IMAGES, size=SIZE, layout=layout, seed=2)
    return {layout: folder / layout for layout in pneumothorax.LAYOUT_WRITERS}


@pytest.fixture(scope="module")
def drawn():
    return {one.name: one for one in pneumothorax.draw_images(IMAGES, SIZE, 0.22, True, 2)}


def test_the_air_lies_in_one_lung_against_its_wall():
    for seed in range(40):
        image, mask = draw(seed, sample_area(np.random.default_rng(seed)))
        random = np.random.default_rng(seed)
        chest = ChestRenderer(random, SIZE, SIZE, sample_patient(random))
        chest.body(), chest.heart(enlarged=False)
        lungs = chest.lungs() > 0.25
        assert image.dtype == mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 1}
        assert lungs[mask > 0].all() and len(set(np.sign(chest.x[mask > 0]))) == 1
        assert (cv2.dilate(mask, np.ones((3, 3))) > 0)[~lungs].any(), "no air touches the wall"


def test_areas_are_the_real_ones_and_as_asked_for():
    random = np.random.default_rng(0)
    areas = np.array([sample_area(random) for _ in range(4000)]) * 1024**2
    assert areas.min() >= 55 and areas.max() <= 161421
    assert np.median(areas) == pytest.approx(8630, rel=0.1) and areas.mean() == pytest.approx(
        14331, rel=0.1
    )
    for seed, area in enumerate(np.geomspace(0.002, 0.06, 30)):
        assert draw(seed, area)[1].mean() == pytest.approx(area, rel=0.25)
    assert all(draw(seed, 55 / 1024**2)[1].sum() >= 6 for seed in range(30))
    assert not draw(0, None)[1].any()


def test_a_seed_draws_the_same_pixels_and_another_does_not():
    (image, mask), again, other = draw(1, 0.02), draw(1, 0.02), draw(2, 0.02)
    assert (
        np.array_equal(image, again[0])
        and np.array_equal(mask, again[1])
        and not np.array_equal(image, other[0])
    )


def test_without_confounders_only_they_are_missing():
    changed = []
    for seed in range(40):
        (image, mask), (plain, plain_mask) = draw(seed, 0.01), draw(seed, 0.01, confounders=False)
        assert np.array_equal(mask, plain_mask)
        changed.append(np.mean(np.abs(image.astype(int) - plain) > 8))
    assert np.mean(np.array(changed) > 0) > 0.5 and np.median(changed) < 0.05


def test_a_pneumothorax_changes_its_own_lung_alone():
    for seed in range(20):
        (image, mask), (healthy, _) = (
            draw(seed, 0.02, confounders=False),
            draw(seed, None, confounders=False),
        )
        changed, left = np.abs(image.astype(int) - healthy), np.arange(SIZE) < SIZE / 2
        own = mask[:, left].any()
        assert (
            changed[:, left == own].mean() > 1.5 * changed[:, left != own].mean()
            and changed[mask > 0].mean() > 2
        )


def test_brightness_does_not_find_the_air(drawn):
    positives = [one for one in drawn.values() if one.mask.any()]
    dark = [(one.mask, one.image < limit) for limit in range(5, 255, 5) for one in positives]
    dice = (
        np.array([2 * np.sum(mask * found) / (mask.sum() + found.sum()) for mask, found in dark])
        .reshape(-1, len(positives))
        .mean(1)
    )
    assert max(dice) < 0.25


def test_the_rate_is_as_asked_for_and_patients_stay_together(drawn):
    ones = list(drawn.values())
    assert len(ones) == IMAGES and sum(one.mask.any() for one in ones) == round(0.22 * IMAGES)
    assert {one.patient for one in ones if one.test}.isdisjoint(
        one.patient for one in ones if not one.test
    )
    assert 0.05 < np.mean([one.test for one in ones]) < 0.25 and any(
        one.test and one.mask.any() for one in ones
    )
    assert {
        sum(one.patient == patient for one in ones) for patient in {one.patient for one in ones}
    } == {1, 2, 3}


def test_kaggles_layout_holds_the_drawn_images_and_masks(roots, drawn):
    files = {path.stem: path for path in roots["kaggle"].glob("dicom/*/*/*.dcm")}
    rows = table(roots["kaggle"] / "train-rle.csv")
    assert (roots["kaggle"] / "train-rle.csv").read_text().startswith("ImageId, EncodedPixels\n")
    texts = {
        row["ImageId"]: [
            other[" EncodedPixels"] for other in rows if other["ImageId"] == row["ImageId"]
        ]
        for row in rows
    }
    assert (
        len(files.keys() - texts.keys()) == len(texts.keys() - files.keys()) == 1
        and files.keys() & texts.keys() == drawn.keys()
    )
    assert any(len(own) > 1 for own in texts.values()) and {
        text for own in texts.values() for text in own
    } >= {"-1", " -1"}
    for name, one in drawn.items():
        data = pydicom.dcmread(files[name])
        pixels = (
            255 - data.pixel_array
            if data.PhotometricInterpretation == "MONOCHROME1"
            else data.pixel_array
        )
        assert data.SOPInstanceUID == name and np.abs(pixels.astype(int) - one.image).mean() < 3
        coded = rle.decode_siim(texts[name], SIZE, SIZE)
        assert np.array_equal(rle.decode_rle([coded], SIZE, SIZE)[..., 0], one.mask)
    assert {row["image"]: row["patient"] for row in table(roots["kaggle"] / "patients.csv")} == {
        name: one.patient for name, one in drawn.items()
    }


def test_the_layouts_of_pngs_hold_the_drawn_images_and_masks(roots, drawn):
    rows = [
        row | {"split": split}
        for split in ("train", "test")
        for row in table(roots["png"] / f"stage_1_{split}_images.csv")
    ]
    assert (
        {row["ImageId"] for row in rows}
        == drawn.keys()
        == {path.stem for path in roots["tree"].glob("siim-acr-png/images/*/*.png")}
    )
    for row in rows:
        one, name, split = drawn[row["ImageId"]], row["new_filename"], row["split"]
        assert (
            split == one.split
            and f"_{split}_{row['has_pneumo']}_" in name
            and int(row["has_pneumo"]) == one.mask.any()
        )
        tree = roots["tree"] / "siim-acr-png"
        for image in (
            roots["png"] / "png_images" / name,
            tree / "images" / split / f"{one.name}.png",
        ):
            assert np.array_equal(gray(image), one.image)
        for mask in (roots["png"] / "png_masks" / name, tree / "masks" / split / f"{one.name}.png"):
            assert np.array_equal(gray(mask), one.mask * 255)


def test_an_unknown_layout_is_refused(tmp_path):
    with pytest.raises(UserError, match="zip"):
        pneumothorax.write(tmp_path / "x", layout="zip")
