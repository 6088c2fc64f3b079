"""Masks of three exclusive classes from a table of RLEs to page, prediction and test-time views."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchmetrics.functional.classification import multiclass_confusion_matrix

from datamodules.formats.rle import encode_rle
from datamodules.manifest.manifest import Manifest
from evaluation.evidence import read_evidence
from tests.conftest import SMALL, refused
from tests.factories.finished_run import finish_run
from tests.unit.reporting.test_many_classes import Tables

CLASSES = ("box", "disc", "bar")
SPLITS = ["train"] * 24 + ["val"] * 12 + ["test"] * 22
SIDE = 48
WORDS = [
    *SMALL,
    "datamodule=table",
    "datamodule/augmentation=mri",
    f"module.classes=[{','.join(CLASSES)}]",
    "module.exclusive=true",
    "module/loss=dice_cross_entropy",
    "module.net.classes=3",
    "module.optimizer.lr=1e-2",
    "trainer.max_epochs=3",
    "evaluation_size=native",
]


def true_map(n: int) -> np.ndarray:
    """Class map of image `n`; the classes lie on top of each other, and every fourth is absent."""
    random = np.random.default_rng(n)
    y, x = np.mgrid[:SIDE, :SIDE]
    found = np.zeros((SIDE, SIDE), np.uint8)
    top, left = random.integers(2, SIDE - 22, 2)
    shapes = (
        (y >= top) & (y < top + 18) & (x >= left) & (x < left + 18),
        (y - random.integers(10, 38)) ** 2 + (x - random.integers(10, 38)) ** 2 < 81,
        np.abs(x - random.integers(6, 42)) < 4,
    )
    for k, inside in enumerate(shapes, 1):
        if (n + k) % 4:
            found[inside] = k
    return found


def write_table(root: Path, exclusive: bool = True) -> Path:
    """Write images whose gray values show the classes, and a table of one RLE per class."""
    root.mkdir()
    rows = []
    for n, split in enumerate(SPLITS):
        class_map = true_map(n)
        gray = 30 + 60.0 * class_map + np.random.default_rng(n).normal(0, 6, class_map.shape)
        Image.fromarray(gray.clip(0, 255).astype(np.uint8)).save(root / f"{n}.png")
        planes = (class_map[..., None] == np.arange(1, 4)).astype(np.uint8)
        image = {"id": f"i{n:02d}", "image": f"{n}.png", "split": split}
        rows.append(image | {"mask": encode_rle(planes)})
    Manifest(pd.DataFrame(rows), CLASSES, exclusive=exclusive).write(root / "manifest.csv")
    return root


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("exclusive") / "data")


@pytest.fixture(scope="module")
def finished(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exclusive_run") / "run"
    words = [*WORDS[:-1], "evaluation_size=native", f"datamodule.root={table}"]
    callbacks = next(word for word in SMALL if word.startswith("callbacks="))
    words[words.index(callbacks)] = callbacks.replace("report]", "report,predictions,feature_maps]")
    return finish_run([*words, "do=[fit,test,predict]"], folder)


@pytest.mark.slow
def test_a_fit_learns_the_classes_and_its_page_says_argmax_and_has_no_slider(finished):
    html = (finished / "report.html").read_text()
    assert "argmax, nothing searched" in html and 'id="byte"' not in html
    assert ["background", *CLASSES] == json.loads((finished / "report.json").read_text())[
        "confusion"
    ]["test"][0]["names"]
    assert [CLASSES[0], "argmax, nothing searched"] in Tables(html).rows
    report = json.loads((finished / "report.json").read_text())
    mean = report["scores"]["test"]["mean of classes"]
    assert mean["dice"]["value"] > 0.3 and mean["dice"]["low"] is not None
    assert report["rule"] == {name: {} for name in CLASSES} and "pooled_f1" not in report
    metrics = pd.read_csv(finished / "metrics.csv")
    assert metrics["test/dice"].dropna().iloc[0] == pytest.approx(mean["dice"]["value"], abs=1e-6)
    assert "val/pixel_accuracy" in metrics and "val/dice_at_half" not in metrics


@pytest.mark.slow
def test_predicted_class_maps_have_the_confusion_of_the_evidence_and_the_rles_of_their_table(
    finished,
):
    evidence = read_evidence(finished / "evidence/test.npz")
    masks = finished / "predictions/masks"
    values = pd.read_csv(masks / "values.csv")
    assert values.to_dict("list") == {"value": [0, 1, 2, 3], "class": ["background", *CLASSES]}
    assert len(list(masks.iterdir())) == len(evidence) + 1
    for i, id in enumerate(evidence.ids):
        predicted = np.asarray(Image.open(masks / f"{id}.png"))
        expected = multiclass_confusion_matrix(
            torch.from_numpy(predicted.astype(np.int64)),
            torch.from_numpy(true_map(int(id[1:])).astype(np.int64)),
            4,
        )
        assert np.array_equal(evidence.confusion[i], expected)
        for k, name in enumerate(CLASSES, 1):
            rows = pd.read_csv(finished / f"predictions/{name}/submission.csv", dtype=str)
            cell = rows.set_index("ImageId").loc[[id], "EncodedPixels"].iloc[0]
            assert (cell.strip() == "-1") == (not (predicted == k).any())


@pytest.mark.slow
def test_a_folder_of_images_is_predicted_as_the_test_was(finished, table, cli, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    shutil.copy(table / "40.png", folder)
    words = [word for word in WORDS if not word.startswith(("datamodule=", "datamodule/"))]
    words = [word.replace("report]", "report,predictions]") for word in words]
    words += ["datamodule=folder", f"datamodule.root={folder}", f"ckpt_path={finished}"]
    code, said = cli(*words, "do=[predict]", folder=tmp_path / "predicted")
    assert code == 0, said
    again = np.asarray(Image.open(tmp_path / "predicted/predictions/masks/40.png"))
    tested = np.asarray(Image.open(finished / "predictions/masks/i40.png"))
    assert np.array_equal(again, tested)


@pytest.mark.slow
def test_mirrored_views_are_averaged_and_nothing_is_searched(finished, table, cli, tmp_path):
    words = [*WORDS, f"datamodule.root={table}", f"ckpt_path={finished}"]
    code, said = cli(*words, "do=[test]", "tta=hflip", folder=tmp_path / "tta")
    assert code == 0, said
    plain, both = (
        read_evidence(folder / "evidence/test.npz") for folder in (finished, tmp_path / "tta")
    )
    assert plain.identity == both.identity and not np.array_equal(plain.counts, both.counts)
    assert (both.rule == [128, 0, 128]).all()


@pytest.mark.parametrize(
    ("words", "wrong", "mend"),
    [
        (["module/loss=focal_dice"], "the loss is for overlapping", "module/loss=dice_cross_entr"),
        (["monitor.name=val/average_precision"], "does not exist for exclusive", "take val/dice"),
    ],
)
def test_what_does_not_fit_exclusive_classes_is_refused_before_a_step(
    words, wrong, mend, table, cli, steps
):
    code, said = cli(*WORDS, f"datamodule.root={table}", *words)
    refused(code, said, steps, wrong, mend)


def test_a_table_that_does_not_say_that_its_classes_exclude_each_other_is_refused(
    cli, steps, tmp_path
):
    root = write_table(tmp_path / "data", exclusive=False)
    code, said = cli(*WORDS, f"datamodule.root={root}")
    refused(code, said, steps, "classes of this data may overlap", '"exclusive": true')
