"""Tests of overrides that pneumothorax cannot be trained with.

Each exits with a code and one sentence with a fix; no step is taken, the data are untouched.
"""

from pathlib import Path

import pytest

from datamodules.pneumothorax import PneumothoraxDataModule
from datamodules.sampling.hard_example_scores import (
    HELD_OUT,
    IN_SAMPLE,
    OUT_OF_FOLD,
    SCORES_FILE,
)
from tests.conftest import SMALL_PNX, folder_hash, refused

STAGES = ["callbacks.curriculum.stages=[{epochs:1}]", "trainer.max_epochs=1"]
HARD = ["datamodule/sampling=hard"]


@pytest.fixture
def look(cli, thorax, steps):
    """Looks that words are refused, and the data set left as it was."""

    def look(words: list[str], wrong: str, mend: str, small: list[str] = SMALL_PNX) -> None:
        before = folder_hash(thorax)
        code, said = cli(*small, *STAGES, f"datamodule.root={thorax}", *words)
        refused(code, said, steps, wrong, mend)
        assert folder_hash(thorax) == before

    return look


PATIENTS = {
    "no file": (None, "who.csv does not exist", "name a CSV with the columns image,patient"),
    "nothing in it": ("", "who.csv cannot be read", "name a CSV with the columns image,patient"),
    "no column": (
        "image,name\na,b\n",
        "who.csv has no column patient (it has image, name)",
        "write image,patient",
    ),
    "nobody": (
        "image,patient\na,b\n",
        "who.csv names none of the images, such as '1.2.276",
        "write their ids",
    ),
}


@pytest.mark.parametrize("name", PATIENTS)
def test_bad_patients_are_refused(name, look, tmp_path):
    text, wrong, mend = PATIENTS[name]
    if text is not None:
        (tmp_path / "who.csv").write_text(text)
    look([f"datamodule.patients={tmp_path / 'who.csv'}"], wrong, mend)


def judged(folder: Path, seen: dict[str, str]) -> list[str]:
    """Writes how each image was judged; the words that name the file."""
    rows = [f"{id},0.5,{how},train" for id, how in seen.items()]
    (folder / SCORES_FILE).write_text("\n".join(["id,cls_prob,seen,split", *rows]))
    return [*HARD, f"datamodule.cls_prob={folder}"]


JUDGED = {
    IN_SAMPLE: (
        "probabilities come from a network that was trained on these images",
        "experiment=preclassify_pnx folds=5",
    ),
    HELD_OUT: (
        "come from another split: these images are train here and were held out there",
        "the same datamodule.seed",
    ),
    OUT_OF_FOLD: (
        "come from another split: its folds were trained on these images",
        "the same datamodule.seed",
    ),
}


@pytest.mark.parametrize("how", JUDGED)
def test_probabilities_that_know_too_much_are_refused(how, look, thorax, tmp_path):
    look(judged(tmp_path, {path.stem: how for path in thorax.rglob("*.dcm")}), *JUDGED[how])


def test_probabilities_of_some_images_are_refused(look, thorax, tmp_path):
    rows = PneumothoraxDataModule(
        root=str(thorax), cache_dir=str(tmp_path), image_size=64, split="group", seed=0
    ).table.rows
    how = {row.id: OUT_OF_FOLD if row.split == "train" else HELD_OUT for row in rows.itertuples()}
    first = next(id for id, seen in how.items() if seen == OUT_OF_FOLD)
    del how[first]
    look(
        judged(tmp_path, how),
        f"cls_prob is missing for 1 of 72 train images, such as '{first}'",
        "experiment=preclassify_pnx folds=5",
    )


BAD_WORDS = {
    "hard without probabilities": (
        HARD,
        "cls_prob is missing for 72 of 72 train images",
        "experiment=preclassify_pnx folds=5",
    ),
    "a run without them": (
        [*HARD, "datamodule.cls_prob=/nowhere"],
        "datamodule.cls_prob=/nowhere holds no cls_prob.csv",
        "name a finished run",
    ),
    "size": (["image_size=100"], "image_size=100 is not a multiple of 32", "try 96"),
    "share": (
        ["datamodule.sampling.positive_fraction=1.5"],
        "datamodule.sampling.positive_fraction=1.5 is not allowed",
        "from 0 to 1",
    ),
    "another net's value": (
        ["module/net=deeplabv3plus"],
        "module.net: DeepLabV3Plus cannot be built (",
        "correct the keys of module.net",
    ),
    "another net's key": (
        ["+module.net.upsampling=4"],
        "module.net: Unet does not accept upsampling",
        "remove it",
    ),
    "two of another net": (
        ["+module.net.psp_dropout=0.1", "+module.net.upsampling=4"],
        "does not accept psp_dropout, upsampling",
        "remove them",
    ),
    "no depth": (
        ["module.net.encoder_depth=null"],
        "module.net.encoder_depth=null is not allowed",
        "from 3 to 5",
    ),
    "as many channels as blocks": (
        ["module.net.decoder_channels=[16,8]"],
        "module.net: Unet cannot be built (Model depth is 3",
        "correct the keys",
    ),
}


@pytest.mark.parametrize("name", BAD_WORDS)
def test_bad_words_are_refused(name, look):
    look(*BAD_WORDS[name])


NETS = {
    "fpn": (
        ["module.net.encoder_depth=4"],
        "module.net.upsampling=4 gives logits of another size than the image",
        "set module.net.upsampling=2",
    ),
    "pspnet": (
        ["module.net.upsampling=4"],
        "module.net.upsampling=4 gives logits of another size than the image",
        "set module.net.upsampling=8",
    ),
    "deeplabv3plus": (
        ["module.net.encoder_output_stride=32"],
        "module.net.encoder_output_stride=32 is not allowed",
        "8 or 16",
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_nets_that_cannot_be_are_refused(name, look):
    words, wrong, mend = NETS[name]
    small = [word for word in SMALL_PNX if not word.startswith("module.net=")]
    look(
        [
            f"module/net={name}",
            "module.net.encoder.name=resnet18",
            "module.net.encoder.weights=null",
            *words,
        ],
        wrong,
        mend,
        small,
    )
