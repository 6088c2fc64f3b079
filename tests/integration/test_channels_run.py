"""Images of two and of five channels through run.py: fit, test, predict and page."""

import pytest

from lightning_modules.checkpoint_io import read_checkpoint
from tests.conftest import refused
from tests.factories.layouts import draw, five_pages, two_channels

WORDS = [
    "experiment=segmentation",
    "image_size=64",
    "datamodule.batch_size=4",
    "datamodule.num_workers=0",
    "module.net={encoder:{name:resnet18},encoder_depth:3,decoder_channels:[16,8,8]}",
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
]


@pytest.mark.parametrize(
    ("write", "words", "channels"),
    [
        (two_channels, ["datamodule.channels=2"], 2),
        pytest.param(
            five_pages,
            ["datamodule.channels=5", "datamodule.frame=channels"],
            5,
            marks=pytest.mark.slow,
        ),
    ],
    ids=["files", "pages"],
)
def test_several_channels_from_files_to_page(write, words, channels, cli, tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    write(root, draw(size=(64, 64)), ["edema", "lesion"])
    words = [*WORDS, *words, f"datamodule.root={root}"]
    code, said = cli(*words, "do=[fit,test,predict]")
    assert code == 0, said
    run = tmp_path / "run"
    checkpoint = next((run / "checkpoints").rglob("*.ckpt"))
    state = read_checkpoint(checkpoint)["state_dict"]
    assert state["net.encoder.conv1.weight"].shape[1] == channels
    assert (run / "report.html").is_file() and list((run / "predictions/masks").glob("*.png"))
    code, said = cli(*words, "do=[fit]", "trainer.fast_dev_run=true", folder=tmp_path / "quick")
    assert code == 0, said


def test_the_number_of_channels_is_named(cli, steps, tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    two_channels(root, draw(size=(64, 64)), ["edema", "lesion"])
    code, said = cli(*WORDS, f"datamodule.root={root}", "do=[fit]")
    refused(code, said, steps, "has 2 channels", "set datamodule.channels=2")
