"""Predictor of a run folder: equal to the module by hand, and refusals in a sentence."""

import cv2
import numpy as np
import pytest
import torch
import yaml

from datamodules.errors import ManifestError, UserError
from datamodules.formats.gray_levels import SourceImage, encode_levels
from datamodules.image_size import ImageSize
from datamodules.loading.letterbox import Letterbox, resize_image
from deployment import Predictor
from deployment.inference import (
    Decision,
    InferencePipeline,
    Preprocessing,
    remove_small_components,
)
from deployment.trained_network import load_trained_network
from tests.factories.trained_run import (
    as_test_images,
    label_module,
    mask_module,
    torch_masks,
    write_images,
    write_run,
)

MASK = Decision(target="mask", classes=("a",), exclusive=False, rule=((128.0, 0.0, 128.0),))


def pipeline(network, size=64, channels=1, decision=MASK, **more):
    """Return a pipeline whose network is a function of the canvas."""
    side = ImageSize(size, size)
    given = Preprocessing(image_size=side, cache_size=side, channels=channels)
    return InferencePipeline(network, given, decision, **more)


def bright(canvas):
    """Return logits that are positive where the canvas is bright."""
    return canvas[:, :1].astype(np.float32) - 127.5


def test_masks_of_a_run_are_those_of_its_module_on_every_size(tmp_path):
    run = write_run(tmp_path / "run", mask_module(["a"]), [[140.0, 0.01, 120.0]])
    predict = Predictor.from_run(run)
    trained = load_trained_network(run)
    paths = write_images(tmp_path / "images", [(64, 64), (33, 120), (200, 150)])
    results = list(predict.predict_many(paths, batch_size=2))
    for image, result in zip(as_test_images(paths), results, strict=True):
        assert np.array_equal(result.masks, torch_masks(trained, image))
        assert (result.height, result.width) == image.size == result.mask.shape
        assert result.id == image.id


def test_the_last_checkpoint_and_a_file_can_be_named(tmp_path):
    run = write_run(tmp_path / "run", label_module(["ill"]))
    other = write_run(tmp_path / "other", label_module(["ill"]), seed=1)
    (other / "checkpoints/best.ckpt").rename(run / "checkpoints/last.ckpt")
    image = np.arange(64 * 64).reshape(64, 64).astype(np.uint8)
    best = Predictor.from_run(run)(image).probability["ill"]
    last = Predictor.from_run(run, checkpoint="last")(image).probability["ill"]
    assert best != last
    assert Predictor.from_run(run / "checkpoints/last.ckpt")(image).probability["ill"] == last


def test_an_image_is_resized_from_the_cache_size_as_in_training():
    pixels = np.random.default_rng(0).integers(0, 256, (100, 80, 1), np.uint8)
    given = Preprocessing(image_size=ImageSize(32, 32), cache_size=ImageSize(96, 96), channels=1)
    expected = resize_image(Letterbox(100, 80, 96).image(pixels), 32, 32)[..., 0]
    assert np.array_equal(given.to_canvas(SourceImage(pixels))[0], expected)


def test_deep_images_are_displayed_by_the_window_of_the_training():
    levels, meaning = encode_levels(np.full((64, 64), 300, np.uint16) + np.eye(64, dtype=np.uint16))
    side = ImageSize(64, 64)
    given = Preprocessing(image_size=side, cache_size=side, channels=1, window=(0.0, 600.0))
    shown = given.to_canvas(SourceImage(levels[..., None], meaning))
    assert shown[0, 0, 5] == 128 and shown[0, 5, 5] == round(301 / 600 * 255)
    with pytest.raises(ManifestError, match="more than 8 bits"):
        Preprocessing(image_size=side, cache_size=side, channels=1).to_canvas(
            SourceImage(levels[..., None], meaning)
        )


def test_boxes_areas_and_small_components_by_hand():
    pixels = np.zeros((64, 64), np.uint8)
    pixels[10:20, 30:34] = 255  # 40 pixels
    pixels[50, 5] = 255
    found = pipeline(bright)(pixels)
    assert [tuple(box) for box in found.boxes] == [
        ("a", 30, 10, 34, 20, 40),
        ("a", 5, 50, 6, 51, 1),
    ]
    assert found.area == {"a": 41} and found.area_mm2 is None and found.label == "a"
    kept = pipeline(bright, min_component=2)(pixels)
    assert kept.area == {"a": 40} and kept.positive == {"a": True}
    none = pipeline(bright, min_component=50)(pixels)
    assert none.positive == {"a": False} and none.label == "" and none.boxes == []
    assert kept.as_dict()["boxes"][0]["x2"] == 34


def test_components_are_joined_over_corners():
    masks = np.eye(4, dtype=bool)[None]
    assert remove_small_components(masks, 4).sum() == 4
    assert remove_small_components(masks, 5).sum() == 0


def test_the_area_is_in_mm2_where_the_spacing_is_known():
    pixels = np.zeros((64, 64), np.uint8)
    pixels[:10, :10] = 255
    predict = pipeline(bright)
    loaded = predict.load(pixels)._replace(spacing=(0.5, 0.2))
    (found,) = predict.predict_batch([loaded])
    assert found.area_mm2 == {"a": pytest.approx(10.0)}


def test_color_becomes_gray_as_pillow_converts_it_and_is_noted(tmp_path):
    color = np.zeros((64, 64, 3), np.uint8)
    color[..., 0] = 200  # red: 0.299 * 200 is 59.8
    path = tmp_path / "red.png"
    cv2.imwrite(str(path), color[..., ::-1])
    seen = []
    predict = pipeline(lambda canvas: (seen.append(canvas), bright(canvas))[1])
    assert predict(path).converted_from_color
    assert not predict(color[..., 0]).converted_from_color
    predict(color)
    assert seen[0][0, 0, 0, 0] == seen[2][0, 0, 0, 0] == 60


def test_an_image_of_the_size_of_a_stamp():
    pixels = np.full((2, 3), 255, np.uint8)
    assert pipeline(bright)(pixels).masks.all()


@pytest.mark.parametrize(
    "pixels", [np.zeros((8, 8)), np.zeros(8, np.uint8), np.zeros((8, 8, 2), np.uint8)]
)
def test_arrays_that_are_no_images_are_refused(pixels):
    with pytest.raises(UserError, match=r"array|channels"):
        pipeline(bright)(pixels)


def test_overlapping_masks_have_no_single_plane():
    two = Decision(
        target="mask", classes=("a", "b"), exclusive=False, rule=((128.0, 0.0, 128.0),) * 2
    )
    found = pipeline(lambda canvas: bright(canvas).repeat(2, 1), decision=two)(
        np.full((64, 64), 255, np.uint8)
    )
    with pytest.raises(UserError, match="may overlap"):
        _ = found.mask


def test_volumes_need_the_repository(tmp_path):
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(b"")
    with pytest.raises(ManifestError, match=r"is a volume.*do=\[predict\]"):
        pipeline(bright)(path)


def test_the_configuration_of_a_run_cannot_name_a_module_by_itself(tmp_path, monkeypatch):
    (tmp_path / "own_loss.py").write_text(
        "from lightning_modules import DiceLoss\n\n\nclass OwnLoss(DiceLoss):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run = write_run(tmp_path / "run", mask_module(["a"]))
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["module"]["loss"] = {"_target_": "own_loss.OwnLoss"}
    config["code"] = ["own_loss"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match=r"add code=\[own_loss\]"):
        Predictor.from_run(run)
    assert Predictor.from_run(run, code=["own_loss"])(np.zeros((64, 64), np.uint8)).masks.shape
    with pytest.raises(UserError, match="no name of a module of your own"):
        Predictor.from_run(run, code=["os"])


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    run = write_run(tmp_path / "run", mask_module(["a"]))
    other = write_run(tmp_path / "other", mask_module(["a", "b"]))
    (other / "checkpoints/best.ckpt").replace(run / "checkpoints/best.ckpt")
    with pytest.raises(UserError, match="belongs to another network"):
        Predictor.from_run(run)


def test_folders_that_are_no_run_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"no config\.yaml"):
        Predictor.from_run(tmp_path)
    with pytest.raises(UserError, match="cannot be read as the description of a bundle"):
        Predictor.from_bundle(tmp_path)
    run = write_run(tmp_path / "run", label_module(["ill"]))
    path = run / "checkpoints/best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["training_record"]
    torch.save(checkpoint, path)
    with pytest.raises(UserError, match="does not record the image size"):
        Predictor.from_run(run)
