"""Tests of the augmentation pipeline: what each transform asks of the library, order, refusals."""

import re
from pathlib import Path

import albumentations as A
import numpy as np
import pytest
from omegaconf import OmegaConf

from datamodules import augmentation as ours
from datamodules.arguments import ArgumentError
from datamodules.augmentation import Pipeline, Transform, transform_seed
from lightning_modules.instantiation import instantiate_config

CONF = Path(__file__).parents[3] / "conf/datamodule/augmentation"
# name of the transform -> arguments, and the same transform written for albumentations
SHIFT = {"x": (-0.1, 0.1), "y": (-0.1, 0.1)}
CASES = {
    "HorizontalFlip": ({"p": 1.0}, A.HorizontalFlip(p=1.0)),
    "VerticalFlip": ({"p": 1.0}, A.VerticalFlip(p=1.0)),
    "Affine": (
        {"degrees": 20, "scale": 0.2, "translate": 0.1, "p": 1.0},
        A.Affine(rotate=(-20, 20), scale=(0.8, 1.2), translate_percent=SHIFT, p=1.0),
    ),
    "RandomResizedCrop": (
        {"size": [24, 40], "scale": [0.2, 0.5], "ratio": [0.9, 1.1]},
        A.RandomResizedCrop((24, 40), scale=(0.2, 0.5), ratio=(0.9, 1.1), p=1.0),
    ),
    "ElasticTransform": ({"alpha": 36, "p": 1.0}, A.ElasticTransform(alpha=36, sigma=3, p=1.0)),
    "GridDistortion": (
        {"steps": 3, "distort": 0.4, "p": 1.0},
        A.GridDistortion(num_steps=3, distort_limit=(-0.4, 0.4), p=1.0),
    ),
    "GaussianBlur": ({"kernel_size": [5, 9], "p": 1.0}, A.GaussianBlur(blur_limit=(5, 9), p=1.0)),
    "GaussNoise": ({"std": 0.1, "p": 1.0}, A.GaussNoise(std_range=(0, 0.1), p=1.0)),
    "RandomBrightnessContrast": (
        {"brightness": 0.1, "contrast": 0.3, "p": 1.0},
        A.RandomBrightnessContrast((-0.1, 0.1), (-0.3, 0.3), p=1.0),
    ),
    "RandomGamma": ({"gamma": 0.3, "p": 1.0}, A.RandomGamma(gamma_limit=(70, 130), p=1.0)),
    "CLAHE": (
        {"clip_limit": 3, "tiles": 4, "p": 1.0},
        A.CLAHE(clip_limit=(1, 3), tile_grid_size=(4, 4), p=1.0),
    ),
    "CoarseDropout": (
        {"holes": 5, "size": 0.3, "p": 1.0},
        A.CoarseDropout((1, 5), (0.0, 0.3), (0.0, 0.3), p=1.0),
    ),
}
# the largest and smallest values that the annotations allow, which the library must take too
EXTREMES = {
    "Affine": [{"degrees": 0}, {"degrees": 1000, "scale": 0.99, "translate": 1}],
    "RandomResizedCrop": [
        {"size": 1, "scale": [1e-6, 1e-6], "ratio": [1e-6, 1e6]},
        {"size": 64, "scale": [1, 1], "ratio": [1, 1]},
    ],
    "ElasticTransform": [{"alpha": 12}, {"alpha": 1e4}],
    "GridDistortion": [{"steps": 1, "distort": 0.99}, {"steps": 40, "distort": 0.99}],
    "GaussianBlur": [{"kernel_size": [1, 1]}, {"kernel_size": [3, 99]}],
    "GaussNoise": [{"std": 0}, {"std": 1}],
    "RandomBrightnessContrast": [
        {"brightness": 0, "contrast": 0},
        {"brightness": 1, "contrast": 1},
    ],
    "RandomGamma": [{"gamma": 0}, {"gamma": 0.9}],
    "CLAHE": [{"clip_limit": 1, "tiles": 1}, {"clip_limit": 100, "tiles": 32}],
    "CoarseDropout": [{"holes": 1, "size": 0}, {"holes": 100, "size": 0.99}],
}


def planes(channels: int = 1, classes: int = 1) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    mask = np.zeros((48, 64, classes), np.uint8)
    mask[10:30, 20:50] = 1
    image = random.integers(0, 256, (48, 64, channels), np.uint8)
    return {"image": image, "mask": mask}


def named(target: str, **arguments) -> dict:
    return {"_target_": f"datamodules.augmentation.{target}"} | arguments


def test_every_transform_is_compared_with_the_library():
    own = {
        name
        for name, each in vars(ours).items()
        if isinstance(each, type) and issubclass(each, Transform) and each is not Transform
    }
    assert own == set(CASES)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("channels", "classes"), [(1, 1), (3, 13)])
def test_a_transform_does_what_the_library_does_with_the_same_numbers(name, channels, classes):
    arguments, theirs = CASES[name]
    pipeline, plain = Pipeline({"one": getattr(ours, name)(**arguments)}), A.Compose([theirs])
    before, differ = planes(channels, classes), 0
    for seed in range(20):
        found = pipeline(planes(channels, classes), seed)
        plain.set_random_seed(transform_seed(seed, "one"))
        expected = plain(**planes(channels, classes))
        for key in ("image", "mask"):
            assert found[key].dtype == np.uint8 and np.array_equal(found[key], expected[key])
        assert set(np.unique(found["mask"])) <= {0, 1} and found["image"].ndim == 3
        assert found["mask"].shape == (*found["image"].shape[:2], classes)
        differ += not np.array_equal(found["image"], before["image"])
    assert differ > 10


@pytest.mark.parametrize(
    ("name", "arguments"), [(name, each) for name, cases in EXTREMES.items() for each in cases]
)
def test_the_library_takes_all_that_the_annotations_allow(name, arguments):
    pipeline = Pipeline({"one": getattr(ours, name)(**arguments, p=1.0)})
    for seed in range(5):
        assert pipeline(planes(), seed)["image"].dtype == np.uint8


@pytest.mark.parametrize(
    ("name", "arguments", "allowed"),
    [
        ("HorizontalFlip", {"p": 1.5}, "p=1.5 is not allowed; it must be a number from 0 to 1"),
        ("Affine", {"degrees": -5}, "degrees=-5 is not allowed; it must be a number of 0 or more"),
        ("Affine", {"scale": 1}, "scale=1 is not allowed; it must be a number of 0 or more and"),
        ("Affine", {"rotate": 5}, "rotate is not an argument of Affine"),
        ("ElasticTransform", {"alpha": 6}, "alpha=6 is not allowed; it must be a number of 12"),
        (
            "GaussianBlur",
            {"kernel_size": [2, 4]},
            "kernel_size=[2,4] is not allowed; it must be two odd whole numbers above 0",
        ),
        (
            "RandomResizedCrop",
            {"size": 32, "scale": [0.5, 1.5]},
            "scale=[0.5,1.5] is not allowed; it must be two numbers above 0 and at most 1",
        ),
        ("RandomResizedCrop", {}, "size is missing"),
        ("CLAHE", {"clip_limit": 0.5}, "clip_limit=0.5 is not allowed"),
        ("GaussNoise", {"std": 25}, "std=25 is not allowed; it must be a number from 0 to 1"),
    ],
)
def test_wrong_numbers_are_refused(name, arguments, allowed):
    with pytest.raises(ArgumentError, match=re.escape(allowed)):
        getattr(ours, name)(**arguments)


def test_transforms_are_applied_in_the_order_in_which_they_are_written():
    """A crop to the left edge and then a flip is not a flip and then that crop."""
    crop = Transform(A.Crop(0, 0, 16, 48, p=1.0))
    flip = ours.HorizontalFlip(p=1.0)
    image = planes()["image"]
    first = Pipeline({"crop": crop, "flip": flip})({"image": image}, 0)["image"]
    second = Pipeline({"flip": flip, "crop": crop})({"image": image}, 0)["image"]
    assert np.array_equal(first, image[:, :16][:, ::-1])
    assert np.array_equal(second, image[:, ::-1][:, :16])


def test_transforms_are_drawn_independently_of_each_other():
    """Chi-square of two flips: all four combinations are equally likely."""
    image = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    pipeline = Pipeline({"across": ours.HorizontalFlip(), "down": ours.VerticalFlip()})
    counts = np.zeros((2, 2))
    for seed in range(800):
        found = pipeline({"image": image}, seed)["image"]
        across = (found.argmin() % 4) == 3
        counts[int(across), int(found.argmin() >= 8)] += 1
    assert ((counts - 200) ** 2 / 200).sum() < 16.3  # 3 degrees of freedom, p = .001


def test_dropping_a_transform_leaves_the_others_as_they_were():
    flip, blur = ours.HorizontalFlip(), ours.GaussianBlur(kernel_size=[1, 1], p=1.0)
    both, alone = Pipeline({"blur": blur, "flip": flip}), Pipeline({"flip": flip})
    for seed in range(20):
        assert np.array_equal(both(planes(), seed)["image"], alone(planes(), seed)["image"])


def test_a_seed_decides_everything_and_an_empty_pipeline_changes_nothing():
    pipeline = Pipeline({"rotate": ours.Affine(degrees=20, p=1.0), "noise": ours.GaussNoise(p=1.0)})
    one, other = pipeline(planes(), 1)["image"], pipeline(planes(), 2)["image"]
    assert np.array_equal(pipeline(planes(), 1)["image"], one) and not np.array_equal(one, other)
    assert np.array_equal(Pipeline({"noise": None})(planes(), 0)["image"], planes()["image"])


def load(name: str, *overrides: str):
    cfg = OmegaConf.create(
        {"image_size": 32, "augmentation": OmegaConf.load(CONF / f"{name}.yaml")}
    )
    cfg.merge_with(OmegaConf.from_dotlist(list(overrides)))
    return cfg


@pytest.mark.parametrize("name", sorted(path.stem for path in CONF.glob("*.yaml")))
def test_a_pipeline_of_conf_holds_its_transforms_by_name_and_in_order(name):
    cfg = load(name)
    pipeline = instantiate_config(cfg.augmentation)
    assert list(pipeline.transforms) == list(cfg.augmentation.transforms)
    found = pipeline(planes(), 3)
    assert found["image"].dtype == np.uint8 and set(np.unique(found["mask"])) <= {0, 1}
    if name == "radiograph":
        assert found["image"].shape == (32, 32, 1)


def test_one_is_changed_added_and_left_out():
    cfg = load("mri", "augmentation.transforms.rotate.degrees=40")
    cfg.augmentation.transforms.noise = named("GaussNoise", p=0.2)
    cfg.augmentation.transforms.elastic = None
    del cfg.augmentation.transforms["blur"]
    pipeline = instantiate_config(cfg.augmentation)
    assert list(pipeline.transforms) == ["flip", "vertical_flip", "rotate", "intensity", "noise"]
    assert pipeline.transforms["rotate"].transform.rotate == (-40, 40)


def test_any_other_transform_of_the_library_can_be_named():
    other = named("Transform", transform={"_target_": "albumentations.InvertImg", "p": 1.0})
    cfg = OmegaConf.create(named("Pipeline", transforms={"invert": other}))
    found = instantiate_config(cfg)(planes(), 0)["image"]
    assert np.array_equal(found, 255 - planes()["image"])


@pytest.mark.parametrize(
    ("transform", "sentence"),
    [
        (named("Affine", degrees=-1), "augmentation.transforms.x.degrees=-1 is not allowed"),
        (
            named("Affine", degree=1),
            "augmentation.transforms.x.degree is not an argument of Affine",
        ),
        (
            5,
            "augmentation.transforms.x=5 is not allowed; it must be made by a _target_ (Transform)",
        ),
        ({"_target_": "albumentations.InvertImg"}, "augmentation.transforms.x="),
    ],
)
def test_a_wrong_transform_is_refused_under_its_full_key(transform, sentence):
    part = named("Pipeline", transforms={"x": transform})
    cfg = OmegaConf.create({"augmentation": part})
    with pytest.raises(ArgumentError, match=f"^{re.escape(sentence)}"):
        instantiate_config(cfg.augmentation)
