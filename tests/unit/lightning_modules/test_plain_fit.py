"""Small fits without evidence: rates of each step, loss of uneven batches, resumed dropout."""

from functools import partial
from pathlib import Path

import lightning
import pytest
import torch
from lightning import LightningDataModule, Trainer
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from lightning_modules.base import SupervisedModule
from lightning_modules.losses import BCELoss
from lightning_modules.optim import one_cycle, warmup_cosine

BATCH = 4
IMAGES = 7 * BATCH - 3  # the last of seven batches has one image
EPOCHS, TOGETHER = 3, 2
STEPS = 12  # 4 in an epoch: three times two batches, then one


class Noise(Dataset):
    """Images of random gray values and random labels."""

    def __init__(self) -> None:
        random = torch.Generator().manual_seed(0)
        self.image = torch.randint(256, (IMAGES, 1, 8, 8), dtype=torch.uint8, generator=random)
        self.label = torch.randint(2, (IMAGES, 1), generator=random).float()

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        return {"image": self.image[row], "label": self.label[row]}


class Data(LightningDataModule):
    def batches(self, world_size: int, epoch: int) -> int:
        return 7

    def train_dataloader(self) -> DataLoader:
        return DataLoader(Noise(), BATCH)

    val_dataloader = train_dataloader


class Labels(SupervisedModule):
    target = "label"


class Rates(lightning.Callback):
    """The learning rate that each optimizer step was made with."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.seen.append(optimizer.param_groups[0]["lr"])


def make(scheduler=None, dropout: float = 0.0) -> Labels:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(64, 1))
    return Labels(net, BCELoss(), partial(torch.optim.SGD, lr=0.5), scheduler)


def trainer(*callbacks: lightning.Callback, epochs: int = EPOCHS, together: int = 1) -> Trainer:
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_epochs=epochs,
        accumulate_grad_batches=together,
        callbacks=list(callbacks),
    )


def cosine(optimizer):
    warm = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / 3, 1.0, total_iters=2)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS - 3, eta_min=0.05)
    return torch.optim.lr_scheduler.SequentialLR(optimizer, [warm, fall], [3])


def cycle(optimizer):
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, STEPS, 0.3)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (partial(warmup_cosine, warmup=0.25, final=0.1), cosine),
        (partial(one_cycle, start=1 / 25, final=1 / 25 / 1e4), cycle),
    ],
)
def test_every_optimizer_step_has_the_rate_of_the_schedule_over_the_whole_fit(ours, theirs):
    rates = Rates()
    trainer(rates, together=TOGETHER).fit(make(ours), Data())
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.5)
    schedule, expected = theirs(optimizer), []
    for _ in range(STEPS):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step() if len(expected) < STEPS else None
    assert rates.seen == pytest.approx(expected)


def test_the_loss_of_val_is_the_mean_over_images_where_the_last_batch_is_small():
    module, images = make(), Noise()
    (logged,) = trainer().validate(module, Data(), verbose=False)
    with torch.no_grad():
        by_hand = F.binary_cross_entropy_with_logits(module.cpu()(images.image), images.label)
    assert logged["val/loss"] == pytest.approx(by_hand.item(), rel=1e-5)


def test_a_resumed_fit_draws_the_dropout_of_an_uninterrupted_one(tmp_path: Path):
    whole = make(dropout=0.5)
    trainer(epochs=2).fit(whole, Data())
    half, first = make(dropout=0.5), trainer(epochs=1)
    first.fit(half, Data())
    first.save_checkpoint(tmp_path / "half.ckpt")
    torch.manual_seed(99)
    rest = make(dropout=0.5)
    torch.manual_seed(77)  # what another process would have drawn by then
    trainer(epochs=2).fit(rest, Data(), ckpt_path=tmp_path / "half.ckpt", weights_only=False)
    assert torch.equal(rest.net[2].weight, whole.net[2].weight)
    assert not torch.equal(half.net[2].weight, whole.net[2].weight)
