"""Tests of bad classification input: exit code, a sentence with a fix, no step, data untouched."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import SMALL_LABELS, refused


def truncate(root: Path) -> None:
    path = next((root / "train/NORMAL").glob("*.jpeg"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def nameless(root: Path) -> None:
    shutil.copy(next(root.glob("train/NORMAL/*.jpeg")), root / "train/NORMAL/x.jpeg")


BAD_DATA = {
    "no class folder": (
        lambda r: shutil.rmtree(r / "test/NORMAL"),
        "has no class folder NORMAL",
        "datamodule.class_folders",
    ),
    "unknown class folder": (
        lambda r: (r / "val/COVID").mkdir(),
        "val/COVID is none of the class folders",
        "move it away",
    ),
    "no patient": (nameless, "x.jpeg has no patient", "datamodule.group=file"),
    "corrupt": (truncate, "cannot be decoded", "replace the file"),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_bad_data_is_refused(name, radiographs, refuses_spoilt):
    spoil, wrong, mend = BAD_DATA[name]
    refuses_spoilt([*SMALL_LABELS, "trainer.max_epochs=1"], radiographs, spoil, wrong, mend)


BAD_WORDS = {
    "folder split": (
        ["datamodule.split=folders"],
        "leak(s) between splits",
        "datamodule.allow_leaks=true",
    ),
    "rank": (
        ["module.net.lora.rank=0"],
        "module.net.lora.rank=0 is not allowed",
        "module.net.lora=null",
    ),
    "targets": (
        ["module.net.lora.targets=[nothing]"],
        "no layer of EfficientNet is named nothing (or none that it uses)",
        "module.net.lora.targets",
    ),
    "library": (
        ["module.net.library=keras"],
        "module.net.library=keras is not allowed",
        "it must be timm or torchvision",
    ),
    "weights": (
        ["module.net.encoder.name=resnet18"],
        "cannot be fetched",
        "start from a run of the same network with init_from=RUN",
    ),
    "objective": (
        ["callbacks.threshold_search.objective=f2"],
        "objective=f2 is not allowed",
        "f1, youden",
    ),
    "bound": (
        ["callbacks.threshold_search.min_metrics.sensitivity=1.5"],
        "threshold_search.min_metrics.sensitivity=1.5",
        "a number above 0 and of at most 1, or null",
    ),
    "exclusive": (
        ["module.exclusive=true"],
        "module.exclusive=true needs two or more classes",
        "exclusive=false",
    ),
    "classes": (
        ["module.classes=[TB]"],
        "module.classes=['TB'], but the data has ['PNEUMONIA']",
        "set module.classes",
    ),
    "head": (
        ["module.net.classes=3"],
        "the network gives 3 logits, but module.classes names 1",
        "module.net.classes=1",
    ),
    "network": (
        ["module.net.encoder.name=tf_efficientnetv2"],
        "timm has no network 'tf_efficientnetv2'",
        "choose ",
    ),
    "search of masks": (
        ["callbacks=[checkpoint,threshold_search/segmentation,graceful_shutdown]"],
        "threshold_search is for masks",
        "threshold_search/classification",
    ),
    "experiment": (
        ["init_from=latest:nothing"],
        "init_from=latest:nothing names no experiment",
        "--help",
    ),
    "no run": (
        ["init_from=latest:pretrain_chest"],
        "there is no finished run of pretrain_chest on real data",
        "name a run folder",
    ),
    "nothing to compare": (["do=[compare]"], "no runs to compare", "runs=[A,B]"),
    "compare and fit": (
        ["do=[fit,compare]"],
        "do=[fit,compare]: compare cannot be combined",
        "set do=[compare]",
    ),
}


@pytest.mark.parametrize("name", BAD_WORDS)
def test_bad_words_are_refused(name, cli, radiographs, steps, tmp_path):
    words, wrong, mend = BAD_WORDS[name]
    code, said = cli(
        *SMALL_LABELS,
        f"datamodule.root={radiographs}",
        "trainer.max_epochs=1",
        f"paths.runs={tmp_path / 'runs'}",
        *words,
    )
    if name == "search of masks":
        steps.clear()  # only an evaluation shows what kind of evidence there is
    refused(code, said, steps, wrong, mend)
