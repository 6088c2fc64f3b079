"""Run folders of small random networks, with a checkpoint and its record, without a training."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from omegaconf import OmegaConf

from datamodules.loading.letterbox import Letterbox
from deployment.parity import TestImage
from deployment.trained_network import TrainedNetwork
from lightning_modules.instantiation import instantiate_config
from lightning_modules.training_record import RECORD_KEY

SIZE = 64
OPTIMIZER = {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 1e-3}


def mask_module(classes: list[str], exclusive: bool = False, **more: Any) -> dict[str, Any]:
    """Return the configuration of a small U-Net."""
    loss: dict[str, Any] = {"_target_": "lightning_modules.DiceLoss"}
    if exclusive:
        loss = {"_target_": "lightning_modules.DiceCrossEntropyLoss", "exclusive": True}
    net = {
        "_target_": "lightning_modules.networks.build_smp_network",
        "architecture": "Unet",
        # the weights must not be fetched, because the checkpoint replaces them
        "encoder": {"name": "resnet18", "weights": "imagenet"},
        "encoder_depth": 3,
        "decoder_channels": [16, 8, 8],
        "in_channels": 1,
        "classes": len(classes),
    }
    return {
        "_target_": "lightning_modules.SegmentationModule",
        "classes": classes,
        "exclusive": exclusive,
        "net": net,
        "loss": loss,
        "optimizer": OPTIMIZER,
        "mean": [0.4],
        "std": [0.25],
        **more,
    }


def label_module(classes: list[str], lora: bool = False, **more: Any) -> dict[str, Any]:
    """Return the configuration of a small classifier, with LoRA adapters or without."""
    net: dict[str, Any] = {
        "_target_": "lightning_modules.networks.build_classifier",
        "library": "timm",
        "encoder": {"name": "resnet18", "weights": None},
        "classes": len(classes),
        "in_channels": 1,
        "channels": [8, 16, 16, 16],
        "layers": [1, 1, 1, 1],
    }
    adapters = {"rank": 2, "alpha": 16, "dropout": 0.05, "targets": None}
    adapted = net | {
        "_target_": "lightning_modules.networks.build_frozen_classifier",
        "lora": adapters,
    }
    exclusive = more.get("exclusive", False)
    return {
        "_target_": "lightning_modules.ClassificationModule",
        "classes": classes,
        "net": adapted if lora else net,
        "loss": {"_target_": f"lightning_modules.{'CrossEntropyLoss' if exclusive else 'BCELoss'}"},
        "optimizer": OPTIMIZER,
        "mean": [0.5],
        "std": [0.5],
        **more,
    }


def write_run(
    folder: Path,
    module: dict[str, Any],
    rule: list[list[float]] | None = None,
    seed: int = 0,
    **record: Any,
) -> Path:
    """Write config.yaml and checkpoints/best.ckpt of a network with random weights."""
    torch.manual_seed(seed)
    built = dict(module)
    built["net"] = built["net"] | {"encoder": built["net"]["encoder"] | {"weights": None}}
    made = instantiate_config(OmegaConf.create({"module": built}).module)
    spread_logits(made)
    if rule is not None:
        made.rule.values = torch.tensor(rule, dtype=torch.float64)
    stored = {
        "classes": list(made.classes),
        "exclusive": bool(made.exclusive),
        "channels": 1,
        "image_size": SIZE,
        "configured_size": SIZE,
        "window": {"range": None, "given": False},
        **record,
    }
    (folder / "checkpoints").mkdir(parents=True)
    checkpoint = {"state_dict": made.state_dict(), RECORD_KEY: stored}
    torch.save(checkpoint, folder / "checkpoints" / "best.ckpt")
    data = {"cache_size": None, "frame": None, "max_pixels": 10**6}
    config = {"title": "random", "module": module, "datamodule": data, "init_from": None}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def spread_logits(module: Any) -> None:
    """Scale the weights at random, so that logits cover many bytes and adapters are not zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in module.net.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)
        for name in ("segmentation_head", "fc", "net.fc"):
            head = dict(module.net.named_modules()).get(name)
            if head is not None:
                for weight in head.parameters():
                    weight.copy_(torch.randn(weight.shape, generator=generator) * 2)


def write_images(folder: Path, sizes: list[tuple[int, int]]) -> list[Path]:
    """Write PNGs of smooth noise."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, paths = np.random.default_rng(0), []
    for number, (height, width) in enumerate(sizes):
        coarse = rng.integers(0, 256, (6, 6)).astype(np.uint8)
        pixels = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        paths.append(folder / f"image{number}.png")
        cv2.imwrite(str(paths[-1]), pixels)
    return paths


def as_test_images(paths: list[Path], size: int = SIZE) -> list[TestImage]:
    """Return files as a data module gives them: read by OpenCV and letterboxed."""
    found = []
    for path in paths:
        pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)[..., None]
        canvas = Letterbox(*pixels.shape[:2], size).image(pixels).transpose(2, 0, 1)
        found.append(TestImage(path.stem, np.ascontiguousarray(canvas), pixels.shape[:2], path))
    return found


def torch_masks(trained: TrainedNetwork, image: TestImage) -> np.ndarray:
    """Return the masks of one image as do=[predict] computes them, bool `C x H x W`."""
    with torch.no_grad():
        logits = trained.module(torch.from_numpy(image.canvas)[None])
    content = Letterbox(*image.size, SIZE).content
    whole = torch.nn.functional.interpolate(
        logits[content.slices].float(), size=image.size, mode="bilinear", align_corners=False
    )
    return trained.module.rule(whole)[0].numpy()
