"""Tests that images a network was trained on are refused as test images, by count and name."""

import json
import re
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lightning_modules.training_record import RECORD_KEY
from tests.conftest import SMALL, SMALL_LABELS
from tests.factories.finished_run import finish_run

FIT = ["trainer.max_epochs=1", "datamodule.batches_per_epoch=2"]


@pytest.fixture(scope="module")
def trained(radiographs, tmp_path_factory) -> Path:
    """A run whose split was drawn with datamodule.seed=1."""
    words = [*SMALL_LABELS, f"datamodule.root={radiographs}", "datamodule.seed=1", *FIT]
    return finish_run(words, tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture(scope="module")
def fitted(export, tmp_path_factory) -> Path:
    """A run that learned masks and was not tested."""
    words = [*SMALL, f"datamodule.root={export}", *FIT, "do=[fit]"]
    return finish_run(words, tmp_path_factory.mktemp("fitted") / "run")


def _again(cli, root, trained, *words, folder):
    return cli(
        *SMALL_LABELS,
        f"datamodule.root={root}",
        "do=[test]",
        f"ckpt_path={trained}",
        *words,
        folder=folder,
    )


def _split(root: Path, seed: int) -> pd.Series:
    """Image -> split, by the data module itself."""
    from datamodules.chest_xray import ChestXrayDataModule

    data = ChestXrayDataModule(
        root=root, cache_dir=root.parent / "cache", image_size=64, split="group", seed=seed
    )
    return data.table.rows.set_index("id")["split"]


@pytest.mark.slow
def test_a_split_drawn_anew_is_refused_with_the_number_and_the_names(
    cli, steps, radiographs, trained, tmp_path
):
    then, now = _split(radiographs, 1), _split(radiographs, 0)
    test = now.index[now == "test"]
    seen = [id for id in test if then[id] != "test"]
    assert 0 < len(seen) < len(test)
    steps.clear()
    code, said = _again(cli, radiographs, trained, folder=tmp_path / "again")
    assert (
        code == 2
        and not steps
        and "\n" not in said.strip()
        and "datamodule.allow_leaks=true" in said
    )
    number = re.search(
        rf"ckpt_path={trained}/checkpoints/best.ckpt: (\d+) of (\d+) test images were trained on or"
        r" chosen by",
        said,
    )
    assert (
        number and [int(n) for n in number.groups()] == [len(seen), len(test)] and seen[0] in said
    ), said
    code, said = _again(cli, radiographs, trained, "datamodule.seed=1", folder=tmp_path / "same")
    assert code == 0, said
    assert json.loads((tmp_path / "same/report.json").read_text())["title"] == "lora_pneumonia"
    code, said = _again(
        cli, radiographs, trained, "datamodule.allow_leaks=true", folder=tmp_path / "allowed"
    )
    assert code == 0, said
    title = json.loads((tmp_path / "allowed/report.json").read_text())["title"]
    assert title == f"lora_pneumonia ({len(seen)} of {len(test)} test images were trained on)"
    assert title in (tmp_path / "allowed/report.html").read_text()


def test_a_checkpoint_records_hashes_and_never_names(radiographs, trained):
    checkpoint = torch.load(trained / "checkpoints/best.ckpt", weights_only=True)
    record, split = checkpoint[RECORD_KEY], _split(radiographs, 1)
    seen = split.index[split != "test"]
    assert record["ids"] == sorted(sha256(id.encode()).hexdigest() for id in seen)
    assert record["content"] == sorted(
        {sha256((radiographs / id).read_bytes()).hexdigest() for id in seen}
    )
    names = (
        "version",
        "allow_leaks",
        "classes",
        "exclusive",
        "channels",
        "image_size",
        "window",
        "normalization",
    )
    assert [record[name] for name in names[:6]] == [1, False, ["PNEUMONIA"], False, 1, 64]
    assert record["normalization"] == {"mean": [0.5], "std": [0.5], "gamma": 1.0} and set(
        names
    ) < set(record)
    assert all(type(value) is str for value in record["ids"] + record["content"])
    hyper = [name for name in checkpoint if name.endswith("DataModule")]
    assert all(
        checkpoint[name] == {} for name in hyper
    )  # whose image size means that it changed within the fit


def test_renamed_copies_of_the_training_images_are_found_by_their_content(
    cli, steps, radiographs, trained, tmp_path
):
    """The same files in another layout, under other names and in one folder."""
    split = _split(radiographs, 1)
    rows = []
    (tmp_path / "table").mkdir()
    for number, id in enumerate(split.index):
        image = tmp_path / "table" / f"x{number}.jpeg"
        image.write_bytes((radiographs / id).read_bytes())
        rows.append(
            {
                "id": f"x{number}",
                "image": image.name,
                "label": int("PNEUMONIA" in id),
                "split": split[id],
                "group": f"g{number}",
            }
        )
    table = pd.DataFrame(rows)
    table["split"] = np.where(
        table["split"] == "train", "test", np.where(table["split"] == "test", "train", "val")
    )
    table.to_csv(tmp_path / "table" / "manifest.csv", index=False)
    steps.clear()
    words = [
        *SMALL_LABELS,
        "datamodule=table",
        f"datamodule.root={tmp_path / 'table'}",
        "datamodule.classes=[PNEUMONIA]",
        "do=[test]",
    ]
    code, said = cli(
        *words, f"ckpt_path={trained}", "datamodule.allow_leaks=false", folder=tmp_path / "again"
    )
    wanted = int((table["split"] == "test").sum())
    assert (
        code == 2
        and f"{wanted} of {wanted} test images were trained on or chosen by "
        f"({wanted} the same file, 0 by their id)"
        in said
    ), said


@pytest.mark.slow
def test_weights_that_a_training_starts_from_are_remembered(
    cli, steps, radiographs, trained, tmp_path
):
    words = [*SMALL_LABELS, f"datamodule.root={radiographs}", *FIT]
    steps.clear()
    code, said = cli(
        *words, f"init_from={trained}", folder=tmp_path / "refused"
    )  # before anything is trained
    assert (
        code == 2
        and not steps
        and f"init_from={trained}/checkpoints/best.ckpt: " in said
        and "test images were trained on" in said
    )
    code, said = cli(
        *words, f"init_from={trained}", "do=[fit]", folder=tmp_path / "second"
    )  # without a test nothing is lost
    assert code == 0, said
    first, second = (
        torch.load(folder / "checkpoints/best.ckpt", weights_only=True)[RECORD_KEY]
        for folder in (trained, tmp_path / "second")
    )
    assert set(first["content"]) < set(second["content"]) and set(first["ids"]) < set(second["ids"])
    code, said = _again(
        cli, radiographs, tmp_path / "second", folder=tmp_path / "third"
    )  # its own split, but what it started from had seen them
    assert code == 2 and "test images were trained on" in said


@pytest.mark.slow
def test_images_that_folds_are_tested_on_count_too(cli, steps, export, fitted, tmp_path):
    words = [*SMALL, f"datamodule.root={export}", *FIT]
    code, said = cli(
        *words, f"init_from={fitted}", "folds=2", folder=tmp_path / "b"
    )  # every fold's val was seen
    assert (
        code == 2
        and not steps
        and re.search(r"\d+ of \d+ test images were trained on or chosen by", said)
    ), said


@pytest.mark.slow
def test_one_fold_goes_on_from_its_own_checkpoint(cli, export, tmp_path):
    words = [
        *SMALL,
        f"datamodule.root={export}",
        "datamodule.batches_per_epoch=2",
        "folds=2",
        "fold=1",
    ]
    code, said = cli(*words, "trainer.max_epochs=1", folder=tmp_path / "a")
    assert code == 0, said
    code, said = cli(
        *words, "trainer.max_epochs=2", f"ckpt_path={tmp_path / 'a'}", folder=tmp_path / "b"
    )
    assert code == 0, said


@pytest.mark.slow
def test_a_run_that_was_trained_with_leaks_is_tested_and_its_title_says_so(
    cli, radiographs, tmp_path
):
    words = [
        *SMALL_LABELS,
        f"datamodule.root={radiographs}",
        "datamodule.split=folders",
        "datamodule.allow_leaks=true",
        *FIT,
    ]
    code, said = cli(*words, folder=tmp_path / "a")
    assert code == 0, said
    assert (
        json.loads((tmp_path / "a/report.json").read_text())["title"]
        == "lora_pneumonia (leaks between the splits are allowed)"
    )
    split = "datamodule.split=group"  # another split, whose test images were trained on
    code, said = _again(cli, radiographs, tmp_path / "a", split, folder=tmp_path / "b")
    assert code == 0, said
    assert re.search(
        r"^lora_pneumonia \(\d+ of \d+ test images were trained on\)$",
        json.loads((tmp_path / "b/report.json").read_text())["title"],
    )


@pytest.mark.slow
def test_a_checkpoint_without_a_record_is_tested_only_where_leaks_are_allowed(
    cli, steps, radiographs, trained, tmp_path
):
    checkpoint = torch.load(trained / "checkpoints/best.ckpt", weights_only=True)
    del checkpoint[RECORD_KEY]
    path = tmp_path / "old.ckpt"
    torch.save(checkpoint, path)
    steps.clear()
    code, said = _again(cli, radiographs, path, "datamodule.seed=1", folder=tmp_path / "b")
    assert code == 2 and "does not record which images it was trained on" in said and not steps
    code, said = _again(
        cli,
        radiographs,
        path,
        "datamodule.seed=1",
        "datamodule.allow_leaks=true",
        folder=tmp_path / "c",
    )
    assert code == 0, said
    assert "unknown whether" in json.loads((tmp_path / "c/report.json").read_text())["title"]


@pytest.mark.slow
def test_predictions_on_training_images_are_allowed(cli, radiographs, trained, tmp_path):
    words = [
        "do=[predict]",
        "datamodule.predict_splits=[train]",
        "callbacks=[checkpoint,threshold_search/classification,predictions]",
    ]
    code, said = cli(
        *SMALL_LABELS,
        *words,
        f"datamodule.root={radiographs}",
        f"ckpt_path={trained}",
        folder=tmp_path / "p",
    )
    assert code == 0 and (tmp_path / "p/predictions/predictions.csv").is_file(), said


OTHER = {
    "another class": (
        ["module.classes=[mass]", "datamodule.classes=[mass]"],
        "module.classes=[lesion], but this run has module.classes=['mass']",
    ),
    "channels": (
        ["datamodule.channels=3"],
        "datamodule.channels=1, but this run has datamodule.channels=3",
    ),
}


@pytest.fixture
def folder_of_images(export, tmp_path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for path in sorted((export / "test").glob("*.jpg"))[:3]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize("case", OTHER)
def test_test_and_predict_refuse_what_means_something_else(
    case, cli, steps, fitted, folder_of_images, tmp_path
):
    """A changed setting alone is refused, though the network's numbers are the same."""
    checkpoint = torch.load(fitted / "checkpoints/best.ckpt", weights_only=True)
    path = tmp_path / "changed.ckpt"
    checkpoint[RECORD_KEY]["classes"] = (
        ["lesion"] if case == "another class" else checkpoint[RECORD_KEY]["classes"]
    )
    torch.save(checkpoint, path)
    steps.clear()
    words, sentence = OTHER[case]
    callbacks = "callbacks=[checkpoint,threshold_search/segmentation,predictions]"
    code, said = cli(
        *SMALL,
        callbacks,
        "datamodule=folder",
        f"datamodule.root={folder_of_images}",
        *words,
        "do=[predict]",
        f"ckpt_path={path}",
    )
    assert (
        code == 2 and not steps and f"{path} was trained with {sentence}" in said and "set " in said
    ), said


@pytest.mark.slow
def test_the_order_of_classes_must_be_that_of_the_training(cli, steps, radiographs, tmp_path):
    rows = [
        {
            "id": path.stem,
            "image": str(path),
            "label": [int("PNEUMONIA" in str(path)), 1 - int("PNEUMONIA" in str(path))],
            "group": path.stem,
        }
        for path in sorted(radiographs.rglob("*.jpeg"))
    ]
    table = pd.DataFrame(rows).drop_duplicates("id")
    table["label"] = table["label"].map(json.dumps)
    table.to_csv(tmp_path / "manifest.csv", index=False)
    words = [
        "datamodule=table",
        f"datamodule.root={tmp_path}",
        "module.net.classes=2",
        *FIT,
        "datamodule.allow_leaks=true",
    ]
    classes = [f"{part}.classes=[ill,well]" for part in ("datamodule", "module")]
    code, said = cli(*SMALL_LABELS, *words, *classes, "do=[fit]", folder=tmp_path / "a")
    assert code == 0, said
    steps.clear()
    turned = [f"{part}.classes=[well,ill]" for part in ("datamodule", "module")]
    for do in ("do=[test]", "do=[fit]"):
        code, said = cli(
            *SMALL_LABELS, *words, *turned, do, f"ckpt_path={tmp_path / 'a'}", folder=tmp_path / "b"
        )
        assert (
            code == 2
            and not steps
            and "module.classes=[ill, well], but this run has" in said
            and "(the same classes in another order)" in said
        )


@pytest.mark.slow
def test_the_trained_size_is_used_unless_another_one_is_given(cli, export, tmp_path):
    small = [word for word in SMALL if not word.startswith("image_size")]
    code, said = cli(
        *small,
        "image_size=96",
        f"datamodule.root={export}",
        *FIT,
        "do=[fit]",
        folder=tmp_path / "a",
    )
    assert code == 0, said
    reports = {}
    for name, words in {"none": [], "given": ["image_size=64"], "same": ["image_size=96"]}.items():
        code, said = cli(
            *small,
            *words,
            f"datamodule.root={export}",
            "do=[test]",
            f"ckpt_path={tmp_path / 'a'}",
            folder=tmp_path / name,
        )
        assert code == 0, said
        reports[name] = json.loads((tmp_path / name / "report.json").read_text())["scores"]["test"]
    assert reports["none"] == reports["same"] != reports["given"]


@pytest.mark.slow
def test_the_summary_names_the_size_that_is_tested_and_the_trained_one(
    cli, export, fitted, tmp_path, monkeypatch
):
    from engine import run_summary

    said: list[str] = []
    monkeypatch.setattr(
        run_summary.Console,
        "print",
        lambda self, *parts, **more: said.append(" ".join(map(str, parts))),
    )
    words = [word for word in SMALL if not word.startswith("image_size")]
    for more, sentence in (
        ([], "images of 64 px"),
        (["image_size=96"], "images of 96 px, trained on 64 px"),
    ):
        said.clear()
        code, error = cli(
            *words,
            *more,
            f"datamodule.root={export}",
            "do=[test]",
            f"ckpt_path={fitted}",
            folder=tmp_path / "b",
        )
        assert code == 0, error
        assert any(f"; {sentence};" in line for line in said), said


def test_the_artifact_of_wandb_keeps_the_record(trained):
    from engine.tracking.results import strip_checkpoint

    checkpoint = torch.load(trained / "checkpoints/best.ckpt", weights_only=True)
    kept = strip_checkpoint(checkpoint)
    assert kept[RECORD_KEY] == checkpoint[RECORD_KEY] and "settings" not in kept
