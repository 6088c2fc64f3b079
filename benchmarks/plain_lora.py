"""The published pneumonia recipe as a plain fp32 loop with peft and torchvision.

It uses nothing of this repository but the row list.
"""

import time

import timm
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms


class Radiographs(Dataset):
    """Data set that decodes a jpeg on every access."""

    def __init__(self, rows: list[dict], size: int) -> None:
        self.rows = rows
        self.augment = transforms.Compose(
            [
                transforms.RandomResizedCrop(size),
                transforms.RandomHorizontalFlip(),
                transforms.RandomRotation(15),
                transforms.ToTensor(),
                transforms.Normalize([0.5] * 3, [0.5] * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, float]:
        row = self.rows[index]
        return self.augment(Image.open(row["image"]).convert("RGB")), float(row["label"])


class PlainLora:
    """EfficientNetV2-S, LoRA of rank 8 on every ungrouped Conv2d, focal loss, AdamW.

    Args:
        rows: Rows of a manifest's train split.
        size: Pixels.
        batch_size: Images a step.
    """

    def __init__(self, rows: list[dict], size: int, batch_size: int) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        net = timm.create_model("tf_efficientnetv2_s", num_classes=1)
        layers = [
            name
            for name, layer in net.named_modules()
            if isinstance(layer, nn.Conv2d) and layer.groups == 1
        ]
        config = LoraConfig(
            r=8,
            lora_alpha=16,
            lora_dropout=0.05,
            bias="none",
            target_modules=layers,
            modules_to_save=["classifier"],
        )
        self.net = get_peft_model(net, config).to(self.device)
        self.optimizer = torch.optim.AdamW(
            [p for p in self.net.parameters() if p.requires_grad], 1e-4, weight_decay=0.01
        )
        workers = 8 if torch.cuda.is_available() else 0
        self.loader = DataLoader(
            Radiographs(rows, size), batch_size, shuffle=True, drop_last=True, num_workers=workers
        )

    def run(self, steps: int) -> float:
        """Return the images per second over a number of steps."""
        start, images, done = time.perf_counter(), 0, 0
        self.net.train()
        while True:
            for image, label in self.loader:
                label = label.to(self.device)[:, None].float()
                logits = self.net(image.to(self.device))
                loss = nn.functional.binary_cross_entropy_with_logits(
                    logits, label, reduction="none"
                )
                loss = (
                    (0.25 * label + 0.75 * (1 - label)) * (1 - torch.exp(-loss)) ** 2 * loss
                ).mean()
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                images, done = images + len(image), done + 1
                if done == steps:
                    if torch.cuda.is_available():
                        torch.cuda.synchronize()
                    return images / (time.perf_counter() - start)
