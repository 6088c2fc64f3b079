"""Tests of the summary printed before training, against hand-computed values."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from lightning import Trainer
from omegaconf import OmegaConf
from torch import nn

from callbacks.curriculum_stage import StageConfig
from callbacks.encoder_freezing import EncoderFreezing
from datamodules.image_size import ImageSize
from datamodules.manifest.manifest import Manifest
from datamodules.sampling.config import EpochConfig
from datamodules.sampling.epoch_sampler import SamplingPool
from engine import run_summary
from engine.run_references import PreparedRun
from lightning_modules.losses import DiceLoss, FocalLoss, WeightedLoss
from lightning_modules.normalize import Normalize
from lightning_modules.optim import plateau

AREAS = np.array([[9], [0], [0], [0], [4], [0], [7], [0]])  # of lesions, in pixels


@pytest.fixture
def parts(tmp_path, monkeypatch):
    monkeypatch.setattr(run_summary, "short_description", lambda data: {})  # has tests of its own
    """Five train, one val and two test images of four patients; half of an epoch is positive."""
    rows = {
        "id": list("abcdefgh"),
        "image": list("abcdefgh"),
        "group": list("ppqqrrss"),
        "split": ["train"] * 5 + ["val"] + ["test"] * 2,
    }
    table = Manifest(pd.DataFrame(rows), classes=("lesion",), group_is="patient")
    positive = AREAS[:5, 0] > 0
    pool = SamplingPool(np.arange(5), positive, np.where(positive, "1", "0"), np.ones(5))
    wanted = EpochConfig(ImageSize(64, 32), batch_size=2, batches=4, positive_fraction=0.5)
    data = SimpleNamespace(
        table=table,
        cache=SimpleNamespace(has_masks=True, areas=AREAS, deep=np.zeros(8, bool)),
        pool=pool,
        epoch_config=lambda epoch: wanted,
    )
    data.current_image_size, data.trained_size = (
        (lambda: ImageSize.from_config(64)),
        ImageSize.from_config(32),
    )
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 1, 1))  # 20 and 3 parameters
    net[0].requires_grad_(False)
    loss = WeightedLoss({"focal": FocalLoss(), "dice": DiceLoss()}, {"focal": 0.25, "dice": 0.75})
    optimizer = SimpleNamespace(func=torch.optim.AdamW, keywords={"lr": 3e-4, "weight_decay": 0.01})
    normalize = Normalize(
        [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], source="ImageNet weights of resnet18"
    )
    module = SimpleNamespace(
        net=net, normalize=normalize, loss=loss, optimizer=optimizer, scheduler=plateau
    )
    module.encoder_lr_mult = module.layer_decay = 1.0
    config = {
        "title": "a [bold] title",
        "do": ["fit", "test"],
        "monitor": {"name": "val/dice", "mode": "max"},
    }
    config |= {
        "ckpt_path": None,
        "init_from": None,
        "resume": None,
        "paths": {"run": str(tmp_path / "run")},
    }
    config |= {
        "module": {
            "net": {"architecture": "Unet", "encoder": {"name": "resnet18", "weights": None}}
        },
        "trainer": {"max_time": None},
    }
    trainer = Trainer(
        max_epochs=7,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    return OmegaConf.create(config), trainer, module, data


def test_every_line_is_what_is_counted_by_hand(parts):
    found = run_summary.run_summary(*parts)
    assert found | {"machine": None} == {
        "train": "5 images, 3 patients, 2 positive",
        "val": "1 image, 1 patient, 0 positive",
        "test": "2 images, 1 patient, 1 positive",
        "an epoch": (
            "4 steps of 2 images of 64 x 32 px: 8 images, 0.500 positive, 5 different, one at most"
            " 2 times"
        ),
        "network": "Unet, resnet18, from scratch",
        "parameters": "3 trained of 23",
        "normalization": (
            "mean 0.485 0.456 0.406, std 0.229 0.224 0.225 (ImageNet weights of resnet18)"
        ),
        "loss": "0.25 focal + 0.75 dice",
        "optimizer": "AdamW, lr 0.0003, weight decay 0.01, plateau",
        "machine": None,
        "length": "7 epochs, best by val/dice (max)",
    }
    assert found["machine"].startswith("CPU (") and found["machine"].endswith(", 32-true")


def test_what_was_made_first_comes_first_with_its_time(parts, tmp_path):
    made = PreparedRun("preclassify_pnx", tmp_path / "runs/preclassify_pnx/a", 41.6)
    found = run_summary.run_summary(*parts, [made])
    assert list(found)[:2] == ["made first", "train"]
    assert found["made first"] == f"preclassify_pnx in 42 s ({tmp_path}/runs/preclassify_pnx/a)"
    assert "made first" not in run_summary.run_summary(*parts)


def test_gradients_that_are_gathered_are_told(parts):
    parts[1].accumulate_grad_batches = 3
    assert (
        ", gradients of 3 steps together, 5 different, "
        in run_summary.run_summary(*parts)["an epoch"]
    )


def test_it_is_short_and_plain_where_there_is_no_terminal(parts, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    run_summary.print_summary(*parts)
    lines = capfd.readouterr().out.rstrip().splitlines()
    assert lines[0] == "what this run does: a [bold] title" and lines[-1].startswith("written to  ")
    assert len(lines) <= 15 and "\x1b" not in "".join(lines) and max(map(len, lines[:-1])) <= 80


def test_stretches_that_differ_are_left_to_their_own_table(parts, monkeypatch):
    config, trainer, module, data = parts
    plans = {0: data.epoch_config(0), 1: EpochConfig(ImageSize(64, 32), batch_size=4)}
    data.epoch_config = lambda epoch: plans[min(epoch, 1)]
    assert "an epoch" not in run_summary.run_summary(config, trainer, module, data)


def test_without_a_fit_one_line_says_what_is_judged(parts, capfd, monkeypatch):
    config, *rest = parts
    run_summary.print_summary(
        OmegaConf.merge(config, {"do": ["test"], "ckpt_path": "runs/a", "init_from": None}), *rest
    )
    (line,) = capfd.readouterr().out.splitlines()
    assert line.startswith("a [bold] title: test of runs/a, on CPU (")
    assert (
        "images of 64 px, trained on 32 px; normalization: that of a checkpoint that cannot be read"
        in line
    )


@pytest.mark.parametrize(
    "words",
    [
        {"do": ["test"], "ckpt_path": "{}"},
        {"do": ["predict"], "init_from": "{}"},
        {"do": ["fit"], "ckpt_path": "{}"},
    ],
)
def test_the_normalization_of_a_checkpoint_is_shown_where_it_replaces_the_modules_own(
    words, parts, capfd, tmp_path
):
    config, *rest = parts
    stored = Normalize([0.1], [0.12], gamma=0.5).state_dict()
    torch.save(
        {"state_dict": {f"normalize.{name}": value for name, value in stored.items()}},
        tmp_path / "a.ckpt",
    )
    words = {
        key: value.format(tmp_path / "a.ckpt") if key != "do" else value
        for key, value in words.items()
    }
    run_summary.print_summary(OmegaConf.merge(config, words), *rest)
    assert "mean 0.1, std 0.12, gamma 0.5 (stored in the checkpoint)" in " ".join(
        capfd.readouterr().out.split()
    )


def test_only_the_first_rank_prints(parts, capfd, monkeypatch):
    config, _, module, data = parts
    run_summary.print_summary(config, SimpleNamespace(is_global_zero=False), module, data)
    assert not capfd.readouterr().out


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (
            {"encoder": {"name": "effnet", "weights": "imagenet"}, "lora": {"rank": 8}},
            "effnet, LoRA of rank 8, from imagenet",
        ),
        (
            {"encoder": {"name": "effnet", "weights": None}, "lora": None},
            "effnet, from scratch",
        ),
        (
            {
                "_target_": "lightning_modules.networks.build_classifier",
                "library": "timm",
                "encoder": {"name": "resnet18", "weights": "auto", "weights_folder": None},
            },
            "resnet18, from scratch, because module.net.encoder.weights=auto found no weights of"
            " resnet18 on this machine; for ImageNet weights fetch them with"
            " do=[fetch] on a machine with a network or take an encoder whose weights are here"
            " (module/net/encoder=lite0)",
        ),
        ({"layers": 2}, "Linear, from scratch"),
    ],
)
def test_networks_are_called_by_their_names(net, said, parts):
    cfg = OmegaConf.merge(parts[0], {"module": None})
    cfg.module = {"net": net}
    assert (
        ", ".join(
            [
                *run_summary.describe_network(cfg.module.net, SimpleNamespace(net=nn.Linear(1, 1))),
                run_summary.describe_start(cfg, SimpleNamespace(net=nn.Linear(1, 1))),
            ]
        )
        == said
    )


def test_weights_that_come_from_a_run_are_not_called_from_scratch(parts):
    cfg, _, module, _ = parts
    begun = OmegaConf.merge(cfg, {"init_from": "runs/a"})
    assert run_summary.describe_start(begun, module) == "from runs/a"
    resumed = OmegaConf.merge(begun, {"ckpt_path": "runs/b"})
    assert run_summary.describe_start(resumed, module) == "continues from runs/b"


def test_what_is_different_for_the_encoder_is_said(parts):
    _, trainer, module, _ = parts
    assert run_summary.describe_encoder(trainer, module) == ""
    trainer.callbacks = [EncoderFreezing(epochs=1)]
    module.encoder_lr_mult, module.layer_decay = 0.1, 0.9
    said = "frozen for 1 epoch, learning rate x 0.1, layer decay 0.9"
    assert run_summary.describe_encoder(trainer, module) == said
    trainer.callbacks = [EncoderFreezing(epochs=None)]
    assert run_summary.describe_encoder(trainer, module).startswith("frozen for the whole fit, ")


def test_a_curriculum_has_a_rate_for_each_stage(parts):
    stages = [
        StageConfig(epochs=2, lr=3e-3),
        StageConfig(epochs=2),
        StageConfig(epochs=2, lr=1e-5, patience=1),
    ]
    assert (
        run_summary.describe_optimizer(parts[2], stages)
        == "AdamW, lr 0.003 then 0.0003 then 1e-05, a schedule for each stage"
    )
