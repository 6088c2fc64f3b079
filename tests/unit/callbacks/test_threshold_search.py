"""A threshold search in a validation: the scores that are logged are those at what it found."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from lightning import LightningDataModule, Trainer
from sklearn.metrics import accuracy_score, f1_score
from torch import nn
from torch.utils.data import DataLoader

from callbacks.threshold_search import ClassificationThresholdSearch
from lightning_modules.classification import ClassificationModule
from lightning_modules.losses import BCELoss

IMAGES = 40
LABEL = torch.arange(IMAGES).remainder(4).eq(0).float()[:, None]  # a quarter
NOISE = torch.randn(IMAGES, 1, generator=torch.Generator().manual_seed(0))
PIXEL = (60 * LABEL + 40 * NOISE + 80).clamp(0, 255).to(torch.uint8)
LOGIT = 8 * PIXEL.float() / 255 - 6  # nearly all below a threshold of .5


class Data(LightningDataModule):
    images = np.array([[30, 10]])
    table = SimpleNamespace(
        classes=("sick",), group_is="image", rows=pd.DataFrame({"label": [[0.0]]})
    )

    def val_dataloader(self) -> DataLoader:
        return DataLoader(
            [
                {
                    "image": PIXEL[n].view(1, 1, 1),
                    "label": LABEL[n],
                    "id": f"i{n}",
                    "group": f"i{n}",
                }
                for n in range(IMAGES)
            ],
            batch_size=16,
        )


def test_the_scores_of_a_validation_are_those_at_the_threshold_it_found(tmp_path):
    net = nn.Sequential(nn.Flatten(), nn.Linear(1, 1))
    net[1].weight.data.fill_(8.0)
    net[1].bias.data.fill_(-6.0)
    module = ClassificationModule(
        classes=("sick",),
        net=net,
        loss=BCELoss(),
        optimizer=partial(torch.optim.SGD, lr=0.1),
        mean=[0.0],
        std=[1.0],
    )
    search = ClassificationThresholdSearch(tmp_path)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = Trainer(accelerator="cpu", callbacks=[search], **quiet)
    (logged,) = trainer.validate(module, Data(), verbose=False)
    probability, truth = torch.sigmoid(LOGIT)[:, 0].numpy(), LABEL[:, 0].numpy()
    best = max(f1_score(truth, probability >= t) for t in probability)
    threshold = module.rule.values[0, 0].item()
    assert logged["val/f1"] == pytest.approx(best) == search.found[0]["score"]
    assert logged["val/f1"] > logged["val/f1_at_half"] == f1_score(truth, probability >= 0.5)
    assert logged["val/accuracy"] == pytest.approx(accuracy_score(truth, probability >= threshold))
    assert (module.evidence["val"].rule[:, 0, 0] == threshold).all()
