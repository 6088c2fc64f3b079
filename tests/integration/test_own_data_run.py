"""A newcomer's folder through run.py: inspect, train, predict, and a configuration of its own."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from reporting.run_folder import RunFolder
from tests.conftest import folder_hash, refused
from tests.factories.layouts import draw, image_mask_folders, save

SMALL = [
    "image_size=64",
    "evaluation_size=64",
    "datamodule.batch_size=4",
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    "module.measurements.surface_distance=null",
]
SMALL_UNET = [
    *SMALL,
    "module.net={encoder:{name:resnet18},encoder_depth:3,decoder_channels:[8,8,8]}",
]
SMALL_CLASSIFIER = [*SMALL[:1], *SMALL[2:-1]]


@pytest.fixture(scope="module")
def liver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images/ and masks/ with label maps of two classes."""
    root = tmp_path_factory.mktemp("own") / "liver"
    image_mask_folders(root, draw(30, size=(64, 64)), ["edema", "lesion"])
    return root


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of bright and dark images."""
    root = tmp_path_factory.mktemp("own") / "films"
    rng = np.random.default_rng(0)
    for n in range(40):
        noise = rng.integers(0, 90, (40, 40)) + 120 * (n % 2)
        save(root / ("normal", "pneumonia")[n % 2] / f"p{n // 2}_{n}.png", noise.astype(np.uint8))
    return root


def test_inspect_shows_what_was_understood_and_changes_nothing(cli, liver, tmp_path):
    before = folder_hash(liver)
    code, said = cli("do=inspect", f"datamodule.root={liver}", "image_size=64")
    assert code == 0, said
    assert folder_hash(liver) == before
    found = json.loads((tmp_path / "run/inspect.json").read_text())
    facts = found["facts"]
    assert facts["layout"].startswith("image_mask_folders: images/ with 30 images, and masks/")
    assert facts["mask values"] == (
        "0 background, 1 class_1, 2 class_2 (name them with"
        " 'datamodule.mask_values={1: ..., 2: ...}')"
    )
    items = draw(30, size=(64, 64))
    shown = [sum((item.labels == k).any() for item in items) for k in (1, 2)]
    assert f"class_1 in {shown[0]} images ({shown[0]} separate areas" in facts["classes"]
    assert f"class_2 in {shown[1]} images ({shown[1]} separate areas" in facts["classes"]
    areas = [int((item.labels == k).sum()) for item in items for k in (1, 2)]
    small = sum(0 < area < 16 for area in areas)
    assert (
        f"{small} of {sum(shown)} areas of masks cover fewer than 16 pixels" in facts["small areas"]
    )
    page = (tmp_path / "run/inspect.html").read_text()
    assert page.count("<img ") >= 30 and "Smallest masks" in page and "Random images" in page


def test_inspect_takes_class_folders_for_a_classification(cli, films, tmp_path):
    code, said = cli("do=inspect", f"datamodule.root={films}", "image_size=64")
    assert code == 0, said
    facts = json.loads((tmp_path / "run/inspect.json").read_text())["facts"]
    assert facts["layout"].startswith("class_folders")
    assert facts["classes"] == "pneumonia 20 (50.0%), images without any class 20"
    assert "if 20 names such as 'p0' are patients" in facts["groups"]


def test_what_training_would_refuse_is_refused_by_inspect(cli, liver, tmp_path, steps):
    root = tmp_path / "odd"
    image_mask_folders(root, draw(30, size=(64, 64)), [])
    save(root / "masks/case03.png", np.full((64, 64), 77, np.uint8))
    for words in (["do=inspect"], ["experiment=segmentation"]):
        code, said = cli(*words, f"datamodule.root={root}")
        refused(code, said, steps, "77 in 1 file", "datamodule.mask_values=")


def test_a_folder_of_images_and_masks_trains_with_two_commands(cli, liver, tmp_path):
    run = tmp_path / "fit"
    code, said = cli("experiment=segmentation", f"datamodule.root={liver}", *SMALL_UNET, folder=run)
    assert code == 0, said
    config = RunFolder(run).config
    assert config["module"]["classes"] == ["class_1", "class_2"] and config["module"]["exclusive"]
    assert config["module"]["net"]["classes"] == 2
    evidence = RunFolder(run).read_evidence("test")
    items = {item.name: item.labels for item in draw(30, size=(64, 64))}
    for n, id in enumerate(evidence.ids.tolist()):  # the masks that are scored are those drawn
        labels = items[Path(id).name]
        assert evidence.truth[n, :, 1].tolist() == [int((labels == k).sum()) for k in (1, 2)]
    code, said = cli(
        "experiment=segmentation",
        "datamodule=folder",
        f"datamodule.root={liver / 'images'}",
        "do=[predict]",
        f"ckpt_path={run}",
        *SMALL_UNET,
        folder=tmp_path / "predict",
    )
    assert code == 0, said
    written = sorted((tmp_path / "predict/predictions/masks").glob("*.png"))
    assert len(written) == 30
    assert all(set(np.unique(np.asarray(Image.open(path)))) <= {0, 1, 2} for path in written)
    code, said = cli(
        "experiment=segmentation",
        f"datamodule.root={liver}",
        "do=[test]",
        f"ckpt_path={run}",
        *SMALL_UNET,
        folder=tmp_path / "again",
    )
    assert code == 0, said
    again = RunFolder(tmp_path / "again").read_evidence("test")
    assert again.identity == evidence.identity


@pytest.mark.slow
def test_class_folders_train(cli, films, tmp_path):
    code, said = cli(
        "experiment=classification",
        f"datamodule.root={films}",
        r"datamodule.group_pattern='(p\d+)_'",
        "module.net.encoder.name=resnet10t",
        *SMALL_CLASSIFIER,
    )
    assert code == 0, said
    run = RunFolder(tmp_path / "run")
    assert run.config["module"]["classes"] == ["pneumonia"]
    assert run.read_evidence("test").group_is == "patient"


def test_init_writes_a_configuration_that_trains(cli, liver, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, said = cli("do=init", f"datamodule.root={liver}", "name=liver", "image_size=64")
    assert code == 0, said
    data = yaml.safe_load((tmp_path / "conf/datamodule/liver.yaml").read_text())
    assert data["root"] == str(liver) and data["layout"] == "image_mask_folders"
    assert data["mask_values"] == {1: "class_1", 2: "class_2"}
    experiment = tmp_path / "conf/experiment/segmentation_liver.yaml"
    assert yaml.safe_load(experiment.read_text())["module"]["classes"] == ["class_1", "class_2"]
    code, said = cli("do=init", f"datamodule.root={liver}", "name=liver")
    assert code == 2 and "liver.yaml exists; choose another name" in said
    code, said = cli(
        "experiment=segmentation_liver",
        *SMALL_UNET,
        "trainer.fast_dev_run=true",
        f"hydra.searchpath=[file://{tmp_path}/conf]",
    )
    assert code == 0, said
    code, said = cli("do=init", f"datamodule.root={liver}")
    assert code == 2 and "name=null cannot name a file of conf" in said


def test_colors_are_named_on_the_command_line(cli, tmp_path):
    root = tmp_path / "colored"
    for item in draw(30, size=(64, 64)):
        colors = np.zeros((64, 64, 3), np.uint8)
        colors[item.labels == 1], colors[item.labels == 2] = (255, 0, 0), (0, 0, 128)
        save(root / "images" / f"{item.name}.png", item.image)
        save(root / "masks" / f"{item.name}.png", colors)
    code, said = cli("do=inspect", f"datamodule.root={root}")
    assert code == 2 and '{"#000080": class_a, "#ff0000": class_b}' in said
    words = 'datamodule.mask_values={"#000080": edema, "#ff0000": lesion}'
    code, said = cli("do=inspect", f"datamodule.root={root}", words, "image_size=64")
    assert code == 0, said
    facts = json.loads((tmp_path / "run/inspect.json").read_text())["facts"]
    assert "edema in" in facts["classes"] and "lesion in" in facts["classes"]


def test_a_folder_that_is_none_says_what_was_looked_for(cli, tmp_path, steps):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/readme.txt").write_text("nothing")
    code, said = cli("experiment=segmentation", f"datamodule.root={tmp_path / 'notes'}")
    refused(code, said, steps, "it holds 1 file (1 txt) in its top folder", "Looked for")
