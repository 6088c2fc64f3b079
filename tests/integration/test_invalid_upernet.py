"""Tests of settings that UPerNet cannot use, refused in one sentence before any step."""

import pytest
import torch

from tests.conftest import refused
from tests.integration.test_ranks import WORDS

WORDS = [word for word in WORDS if not word.startswith("image_size")]
CASES = {
    "a size that Swin cannot window": (
        ["image_size=100"],
        "image_size=100 is not a multiple of 32",
        "try 96",
    ),
    "weights that cannot be fetched": (
        ["module.net.weights=openmmlab/upernet-swin-base"],
        "cannot be fetched",
        "name a folder with module.net.weights=PATH",
    ),
    "heads that do not divide the channels": (
        ["module.net.backbone.num_heads=[3,3,3,3]"],
        "num_heads=[3, 3, 3, 3]",
        "correct one of them",
    ),
    "another normalization": (
        ["module.net.norm=layer"],
        "module.net.norm=layer",
        "it must be batch or group",
    ),
    "layers of a network whose names tell no depth": (
        ["module/net=unet", "module.layer_decay=0.9", "module.net.encoder.name=dpn68"],
        "module.layer_decay=0.9",
        "layer_decay=1.0",
    ),
    "parts for GPUs without any": (
        ["trainer=fsdp", "trainer.accelerator=cpu"],
        "trainer=fsdp",
        "set trainer=auto",
    ),
    "another way to resume": (["resume=always"], "resume=always", "it must be auto, or null"),
    "no share of negatives": (
        ["datamodule.sampling.negative_fraction=15"],
        "negative_fraction=15",
        "from 0 to 1",
    ),
}
UNET = [
    "module/net=unet",
    "module.net={encoder:{name:resnet18,weights:null},encoder_depth:3,decoder_channels:[16,8,8]}",
]


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_with_the_mend(case, cli, steps, thorax):
    words, wrong, mend = CASES[case]
    kept = (
        WORDS
        if "module/net=unet" not in words
        else [word for word in WORDS if not word.startswith("module.net.")]
    )
    words = [*UNET, *words[1:]] if "module/net=unet" in words else words
    code, said = cli(*kept, "image_size=64", f"datamodule.root={thorax}", *words)
    refused(code, said, steps, wrong, mend)


@pytest.mark.parametrize("resumed", [["ckpt_path={other}"], ["resume=auto"]])
def test_a_checkpoint_of_another_network_is_refused(resumed, cli, steps, thorax, tmp_path):
    other = tmp_path / "run/checkpoints/last.ckpt"
    other.parent.mkdir(parents=True)
    torch.save({"state_dict": {"net.weight": torch.zeros(1)}, "global_step": 1}, other)
    words = [
        *WORDS,
        "image_size=64",
        f"datamodule.root={thorax}",
        *(word.format(other=other) for word in resumed),
    ]
    code, said = cli(*words)
    refused(code, said, steps, "belongs to another network", "set module.net as in the run")
