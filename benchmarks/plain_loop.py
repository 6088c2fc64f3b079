"""The published brain-tumor recipe as a plain fp32 PyTorch loop.

It uses nothing of this repository but the row list.
"""

import time
from collections.abc import Iterator

import albumentations as A
import cv2
import numpy as np
import segmentation_models_pytorch as smp
import torch
from pycocotools import mask as coco_mask
from torch.utils.data import DataLoader, Dataset


class Slices(Dataset):
    """Data set that decodes a jpg and its mask on every access."""

    def __init__(self, rows: list[dict], size: int, train: bool) -> None:
        self.rows, self.size = rows, size
        self.augment = A.Compose(
            [
                A.HorizontalFlip(p=0.5),
                A.VerticalFlip(p=0.5),
                A.Rotate(limit=15, p=0.5),
                A.ElasticTransform(alpha=60, sigma=5, p=0.2),
                A.GaussianBlur(blur_limit=(3, 5), p=0.1),
                A.RandomBrightnessContrast(p=0.3),
            ]
            if train
            else []
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        row = self.rows[index]
        image = cv2.resize(
            cv2.cvtColor(cv2.imread(row["image"]), cv2.COLOR_BGR2RGB),
            (self.size, self.size),
            interpolation=cv2.INTER_AREA,
        )
        mask = cv2.resize(
            coco_mask.decode(row["mask"][0]),
            (self.size, self.size),
            interpolation=cv2.INTER_NEAREST,
        )
        done = self.augment(image=image, mask=mask)
        normal = (done["image"].astype(np.float32) / 255 - [0.485, 0.456, 0.406]) / [
            0.229,
            0.224,
            0.225,
        ]
        return (
            torch.from_numpy(normal.transpose(2, 0, 1).copy()).float(),
            torch.from_numpy(done["mask"])[None].float(),
        )


class PlainLoop:
    """UNet++ resnet34, 0.5 Focal + 0.5 Dice, Adam.

    Args:
        rows: Rows of a manifest's train split.
        size: Pixels.
        batch_size: Images a step.
        lr: Learning rate.
        bf16: Autocast to bf16 with channels_last instead of fp32.
    """

    def __init__(
        self, rows: list[dict], size: int, batch_size: int, lr: float = 1e-4, bf16: bool = False
    ) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.net = smp.UnetPlusPlus("resnet34", encoder_weights=None).to(self.device)
        self.bf16 = bf16
        if bf16:
            self.net.to(memory_format=torch.channels_last)
        self.focal, self.dice = smp.losses.FocalLoss("binary"), smp.losses.DiceLoss("binary")
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr)
        workers = 8 if torch.cuda.is_available() else 0
        self.loader = DataLoader(
            Slices(rows, size, True), batch_size, shuffle=True, drop_last=True, num_workers=workers
        )

    def steps(self) -> Iterator[int]:
        """Train forever; yield the number of images of each step."""
        while True:
            for image, mask in self.loader:
                self.net.train()
                image, mask = image.to(self.device), mask.to(self.device)
                if self.bf16:
                    image = image.to(memory_format=torch.channels_last)
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                    logits = self.net(image)
                loss = 0.5 * self.focal(logits.float(), mask) + 0.5 * self.dice(
                    logits.float(), mask
                )
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                yield len(image)

    def run(self, steps: int) -> float:
        """Return the images per second over a number of steps."""
        start, images = time.perf_counter(), 0
        for step, seen in enumerate(self.steps(), 1):
            images += seen
            if step == steps:
                break
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return images / (time.perf_counter() - start)

    @torch.no_grad()
    def probabilities(self, rows: list[dict], size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return probabilities and truths of rows, each `N x size x size`."""
        self.net.eval()
        probability, truth = [], []
        for image, mask in DataLoader(Slices(rows, size, False), 8):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                logits = self.net(image.to(self.device))
            probability.append(logits.float().sigmoid()[:, 0].cpu().numpy())
            truth.append(mask[:, 0].numpy())
        return np.concatenate(probability), np.concatenate(truth)


def mean_dice(probability: np.ndarray, truth: np.ndarray, threshold: float) -> float:
    """Return the mean Dice over images, empty/empty = 1."""
    mask = probability >= threshold
    both, whole = (mask * truth).sum((1, 2)), mask.sum((1, 2)) + truth.sum((1, 2))
    return float(np.where(whole > 0, 2 * both / np.maximum(whole, 1), 1.0).mean())
