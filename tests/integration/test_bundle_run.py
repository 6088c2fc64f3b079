"""do=bundle on a run: its predict.py, without torch, writes the masks of do=[predict]."""

import json
import shutil

import cv2
import numpy as np
import pytest

from tests.conftest import SMALL
from tests.factories.finished_run import finish_run
from tests.factories.optional import import_optional
from tests.unit.deployment.test_bundle import run_predict


@pytest.fixture(scope="module")
def trained(export, tmp_path_factory):
    """A run of one epoch; the cache lies beside it."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        import_optional(name)
    folder = tmp_path_factory.mktemp("bundle")
    words = [*SMALL, "trainer.max_epochs=1", "callbacks.report.cases=0", "image_size=[64,96]"]
    return finish_run([*words, f"datamodule.root={export}"], folder / "run")


def test_the_masks_are_those_of_a_prediction_by_the_run(trained, export, cli, tmp_path):
    words = [*SMALL, "image_size=[64,96]", f"datamodule.root={export}", f"ckpt_path={trained}"]
    code, said = cli(*words, "do=bundle", folder=tmp_path / "bundling")
    assert code == 0, said
    parity = json.loads((trained / "bundle/parity.json").read_text())
    assert parity["flipped_pixels"] == parity["flipped_images"] == parity["other_canvas"] == 0
    assert parity["pixels"] == parity["images"] * 96 * 96
    more = ["do=[predict]", "trainer.precision=32-true", "callbacks=[predictions]"]
    code, said = cli(*words, *more, folder=tmp_path / "predicted")
    assert code == 0, said
    expected = {path.name: path for path in (tmp_path / "predicted/predictions/masks").iterdir()}
    assert len(expected) == parity["images"]
    images = {f"test_{path.name}.png": path for path in (export / "test").iterdir()}
    images = {name: images[name] for name in expected}
    done = run_predict(trained / "bundle", *images.values(), "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    some = 0
    for name, path in expected.items():
        mask = cv2.imread(str(path), -1)
        written = tmp_path / f"out/masks/{images[name].stem}.png"
        assert np.array_equal(cv2.imread(str(written), -1), mask)
        some += int(mask.any())
    assert some


@pytest.mark.slow
def test_a_data_set_that_moved_is_named_by_its_key(trained, export, cli, tmp_path):
    words = [*SMALL, "image_size=[64,96]", f"ckpt_path={trained}", "do=bundle"]
    code, said = cli(*words, f"datamodule.root={tmp_path / 'gone'}")
    assert code == 2 and "datamodule.root=" in said
    moved = shutil.copytree(export, tmp_path / "moved")
    code, said = cli(*words, f"datamodule.root={moved}")
    assert code == 0, said


def test_data_of_other_channels_are_refused(trained, export, cli):
    words = [*SMALL, f"ckpt_path={trained}", "do=bundle", f"datamodule.root={export}"]
    code, said = cli(*words, "datamodule.channels=3")
    assert code == 2 and "set datamodule.channels=1" in said
    code, said = cli(*[word for word in words if not word.startswith("ckpt_path")])
    assert code == 2 and "name its run folder with ckpt_path=RUN" in said
