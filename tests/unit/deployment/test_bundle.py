"""A bundle decides as the run that it was made of: in Python, and by its own predict.py."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from datamodules.errors import UserError
from deployment import bundle as bundle_module
from deployment import parity as parity_module
from deployment.bundle import bundle_schema, write_bundle
from deployment.predictor import Predictor
from deployment.trained_network import TrainedNetwork, load_trained_network
from lightning_modules.ensemble import Ensemble
from tests.factories.optional import import_optional
from tests.factories.trained_run import (
    as_test_images,
    label_module,
    mask_module,
    torch_masks,
    write_images,
    write_run,
)

SIZES = [(64, 64), (90, 70), (40, 100), (131, 257), (20, 16)]
NO_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {forbidden}:
            raise ImportError("forbidden: " + name)
sys.meta_path.insert(0, Refuse())
sys.path = [path for path in sys.path if path not in ("", {root!r})]
import runpy
sys.argv = {argv}
runpy.run_path(sys.argv[0], run_name="__main__")
"""
FORBIDDEN = [
    *("torch", "lightning", "pydantic", "omegaconf", "hydra", "scipy", "pandas", "sklearn"),
    *("datamodules", "evaluation", "deployment", "lightning_modules", "reporting", "engine"),
]
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def packages():
    for name in ("onnx", "onnxscript", "onnxruntime"):
        import_optional(name)


def run_predict(
    folder: Path, *arguments: object, forbidden=FORBIDDEN
) -> subprocess.CompletedProcess:
    """Run a bundle's predict.py in a process that cannot import torch or this repository."""
    argv = [str(folder / "predict.py"), *map(str, arguments)]
    code = NO_TORCH.format(forbidden=FORBIDDEN, root=str(ROOT), argv=argv)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, env={"HOME": "/"}
    )


def ensemble_of(folder: Path, module: dict) -> TrainedNetwork:
    """Return two networks together."""
    runs = [write_run(folder / f"fold{n}", module, seed=n) for n in range(2)]
    first, second = map(load_trained_network, runs)
    exclusive = first.decision.exclusive and first.decision.target == "mask"
    first.module.net = Ensemble([first.module.net, second.module.net], exclusive_masks=exclusive)
    return replace(first, checkpoints=(*first.checkpoints, *second.checkpoints))


def test_masks_of_two_classes_with_gamma_and_a_smallest_area(tmp_path):
    rule = [[150.0, 0.02, 120.0], [128.0, 0.0, 128.0]]
    run = write_run(tmp_path / "run", mask_module(["a", "b c"], gamma=0.5), rule)
    trained = load_trained_network(run)
    paths = write_images(tmp_path / "images", SIZES)
    folder, parity = write_bundle(trained, as_test_images(paths))
    assert folder == run / "bundle"
    assert (parity.images, parity.other_canvas, parity.flipped_pixels) == (5, 0, 0)
    assert parity.pixels == 2 * sum(height * width for height, width in SIZES)
    done = run_predict(folder, tmp_path / "images", "--out", tmp_path / "out", "--batch", 2)
    assert done.returncode == 0, done.stderr
    expected = [torch_masks(trained, image) for image in as_test_images(paths)]
    assert 0.05 < np.mean([mask.mean() for mask in expected]) < 0.95  # or nothing is compared
    for path, masks in zip(paths, expected, strict=True):
        for name, mask in zip(("a", "b_c"), masks, strict=True):
            written = cv2.imread(str(tmp_path / "out/masks" / name / path.name), -1)
            assert np.array_equal(written, mask * np.uint8(255))
    with (tmp_path / "out/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row, masks in zip(rows, expected, strict=True):
        assert [int(row["area_px a"]), int(row["area_px b c"])] == masks.sum((1, 2)).tolist()
        assert row["positive a"] == str(int(masks[0].any()))


@pytest.mark.slow
def test_masks_of_exclusive_classes_are_one_class_map(tmp_path):
    run = write_run(tmp_path / "run", mask_module(["x", "y", "z"], exclusive=True))
    trained = load_trained_network(run)
    paths = write_images(tmp_path / "images", SIZES[:3])
    folder, parity = write_bundle(trained, as_test_images(paths))
    assert parity.flipped_pixels == parity.flipped_images == 0
    done = run_predict(folder, *paths, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    seen = set()
    for image, path in zip(as_test_images(paths), paths, strict=True):
        masks = torch_masks(trained, image)
        expected = (masks * np.arange(1, 4).reshape(3, 1, 1)).max(0)
        written = cv2.imread(str(tmp_path / "out/masks" / path.name), -1)
        assert np.array_equal(written, expected)
        seen |= set(np.unique(written).tolist())
    assert len(seen) > 2
    assert (tmp_path / "out/masks/values.csv").read_text().split()[1:3] == ["0,background", "1,x"]


@pytest.mark.parametrize("lora", [pytest.param(False, marks=pytest.mark.slow), True])
def test_labels_and_merged_adapters(tmp_path, lora):
    rule = [[0.3, 1.5, 1.0]]
    run = write_run(tmp_path / "run", label_module(["ill"], lora), rule)
    trained = load_trained_network(run)
    paths = write_images(tmp_path / "images", SIZES)
    folder, parity = write_bundle(trained, as_test_images(paths))
    assert parity.max_probability_difference < 1e-5
    done = run_predict(folder, tmp_path / "images", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    canvas = torch.from_numpy(np.stack([image.canvas for image in as_test_images(paths)]))
    with torch.no_grad():
        expected = (trained.module(canvas)[:, 0] / 1.5).sigmoid().numpy()
    assert np.ptp(expected) > 0.003  # the images differ
    with (tmp_path / "out/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["probability"]) for row in rows] == pytest.approx(expected, abs=1e-5)
    assert [row["positive"] for row in rows] == [str(int(p >= 0.3)) for p in expected]


@pytest.mark.parametrize("exclusive", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_ensemble_averages_the_probabilities_of_its_networks(tmp_path, exclusive):
    trained = ensemble_of(tmp_path, mask_module(["a", "b"], exclusive))
    image = as_test_images(write_images(tmp_path / "images", [(64, 64)]))
    folder, parity = write_bundle(trained, image)
    assert parity.flipped_pixels == 0
    found = Predictor.from_bundle(folder)(image[0].source).probability_map
    single = [Predictor.from_run(tmp_path / f"fold{n}")(image[0].source) for n in range(2)]
    mean = (single[0].probability_map + single[1].probability_map) / 2
    assert np.abs(found - mean).max() < 1e-5
    assert json.loads((folder / "bundle.json").read_text())["networks"] == 2


def test_a_bundle_that_decides_otherwise_leaves_the_earlier_one(tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", label_module(["ill"]))
    trained = load_trained_network(run)
    images = as_test_images(write_images(tmp_path / "images", SIZES[:2]))
    folder, _ = write_bundle(trained, images)
    before = (folder / "bundle.json").read_bytes()
    monkeypatch.setattr(parity_module, "MAX_PROBABILITY_DIFFERENCE", -1.0)
    with pytest.raises(UserError, match="does not decide as the run: probabilities differ"):
        write_bundle(trained, images)
    assert (folder / "bundle.json").read_bytes() == before
    assert sorted(path.name for path in run.iterdir()) == ["bundle", "checkpoints", "config.yaml"]


def test_a_flipped_pixel_is_counted(tmp_path):
    run = write_run(tmp_path / "run", mask_module(["a"]))
    trained = load_trained_network(run)
    images = as_test_images(write_images(tmp_path / "images", [(64, 64)]))
    other = write_run(tmp_path / "other", mask_module(["a"]), [[140.0, 0.0, 140.0]])
    parity = parity_module.measure_parity(trained, Predictor.from_run(other), images)
    masks = [torch_masks(load_trained_network(path), images[0]) for path in (run, other)]
    assert parity.flipped_pixels == (masks[0] != masks[1]).sum() > 0
    assert "pixels differ" in parity.failure("mask")


def test_the_published_schema_is_current():
    path = ROOT / "docs/bundle.schema.json"
    text = json.dumps(bundle_schema(), indent=2) + "\n"
    assert path.read_text() == text, (
        "write it again: python -c 'import json; from deployment.bundle import bundle_schema;"
        " print(json.dumps(bundle_schema(), indent=2))' > docs/bundle.schema.json"
    )


def test_the_card_says_what_is_missing(tmp_path):
    run = write_run(tmp_path / "run", label_module(["ill"]))
    images = as_test_images(write_images(tmp_path / "images", SIZES[:1]))
    folder, _ = write_bundle(load_trained_network(run), images)
    card = (folder / "model_card.md").read_text()
    assert "was not tested, so nothing is known about its quality" in card
    assert "# Network without a report" in card
    assert str(tmp_path) not in card and str(tmp_path) not in (folder / "bundle.json").read_text()


def test_missing_packages_are_named(tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", label_module(["ill"]))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        UserError,
        match=r"onnxruntime; install it with: pip install onnxruntime, .*uv sync --extra deploy",
    ):
        write_bundle(load_trained_network(run), [])
    assert not (run / bundle_module.BUNDLE_FOLDER).exists()
