"""Exclusive classes on small images: logits with ties, truths with absent classes, evidence."""

from functools import partial

import numpy as np
import torch
from torch import nn

from datamodules.loading.letterbox import ContentBox
from evaluation.evidence import SegmentationEvidence
from lightning_modules.losses import DiceCrossEntropyLoss
from lightning_modules.segmentation import SegmentationModule

NAMES = ("left", "right", "both", "rest", "more")


def make_module(classes: int = 3, **settings) -> SegmentationModule:
    """A module whose network is one convolution."""
    settings = {"exclusive": True, "loss": DiceCrossEntropyLoss(exclusive=True)} | settings
    return SegmentationModule(
        classes=list(NAMES[:classes]),
        net=nn.Conv2d(1, classes, 1),
        optimizer=partial(torch.optim.SGD, lr=0.1),
        **settings,
    )


def scene(
    seed: int, classes: int = 3, images: int = 6, size=(12, 17), ignored: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Return logits, truth planes and ignored pixels of images; some lack some of the classes.

    A third of the logits are multiples of 1/2, so that there are ties of two classes and of a class
    with the background; others are 1e-9 apart.
    """
    random = torch.Generator().manual_seed(seed)
    shape = (images, classes, *size)
    class_map = torch.randint(0, classes + 1, (images, 1, *size), generator=random)
    absent = torch.rand(images, classes + 1, generator=random) < 0.4
    absent[:, 0] = False
    gone = absent.gather(1, class_map.flatten(1)).view(class_map.shape)
    class_map = class_map.masked_fill(gone, 0)
    truth = class_map == torch.arange(1, classes + 1).view(1, -1, 1, 1)
    logits = 2 * truth.float() - 0.7 + 1.5 * torch.randn(shape, generator=random)
    silent = torch.rand(images, 1, 1, 1, generator=random) < 0.5
    logits -= 9 * (absent[:, 1:, None, None] & silent)
    kind = torch.randint(0, 3, (images, 1, *size), generator=random)
    logits = torch.where(kind == 0, (logits * 2).round() / 2, logits)
    close = torch.randint(-1, 2, shape, generator=random) * 1e-9
    logits = torch.where(kind == 1, close.float(), logits)
    left_out = None
    if ignored:
        left_out = (torch.rand(images, 1, *size, generator=random) < ignored).to(torch.uint8)
    return logits, truth.to(torch.uint8), left_out


def batch_of(truth: torch.Tensor, ignored: torch.Tensor | None = None, groups: int = 0) -> dict:
    """Return a batch of an evaluation without its images."""
    n, (height, width) = len(truth), truth.shape[-2:]
    batch = {
        "id": [f"i{i:03d}" for i in range(n)],
        "group": [f"p{i % groups if groups else i}" for i in range(n)],
        "truth": truth,
        "content": [ContentBox(0, 0, height, width)] * n,
    }
    return batch | ({} if ignored is None else {"truth_ignored": ignored})


def collect(module: SegmentationModule, stage: str = "val") -> SegmentationEvidence:
    """Return the evidence that a module has collected."""
    arrays = module._collector.collect()
    rule = module.rule.values.numpy()[None].repeat(len(arrays["ids"]), axis=0)
    return module.make_evidence(rule=rule, classes=module.classes, group_is="image", **arrays)


def evidence_of(seed: int, classes: int = 3, groups: int = 0, **scene_settings):
    """Return the evidence of a scene, its predicted and true class maps, and what is ignored."""
    logits, truth, ignored = scene(seed, classes, **scene_settings)
    module = make_module(classes)
    module.update_predictions(logits, batch_of(truth, ignored, groups), "val")
    every = np.concatenate([np.zeros_like(logits[:, :1]), logits.numpy()], 1)
    true = (truth * torch.arange(1, classes + 1).view(1, -1, 1, 1)).sum(1)
    return collect(module), torch.from_numpy(every.argmax(1)), true, ignored
