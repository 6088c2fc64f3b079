"""Networks with other random weights beside the trained one: what their heat maps find, no learning was needed for."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from callbacks.pseudo_labels.grad_cam import HeatMaps, heat_of
from callbacks.pseudo_labels.randomised import randomised
from datamodules.base import ManifestDataModule
from lightning_modules.supervised import SupervisedModule

STATISTICS = 32  # images of train on which BatchNorm statistics are counted


class RandomNetworks:
    """Several of them, drawn anew for each prediction.

    Args:
        number: How many.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._nets: list[nn.Module] = []

    def begin(self, module: SupervisedModule, data: ManifestDataModule) -> None:
        """Draws them; the trained network stays as it is, and nothing listens to it yet."""
        size, canvas = max(2, data.eval_batch_size), data.trained_image_size()
        ids = (
            data.table.rows["id"]
            .to_numpy()[data.table.where("train")][: max(STATISTICS, size)]
            .tolist()
        )
        ids = ids or data.table.rows["id"].tolist()[:STATISTICS]  # a folder has no train
        parts = [ids[start : start + size] for start in range(0, len(ids), size)]
        images = [data.dataset(evaluation=True).batch(part, canvas)["image"] for part in parts]
        self._nets = [
            randomised(module.net, seed, (as_given(module, each) for each in images)).eval()
            for seed in range(self.number)
        ]

    def heats(self, given: Tensor, heat_maps: HeatMaps, channel: int) -> Sequence[np.ndarray]:
        """float32 `B x h x w` of each network.

        Args:
            given: `B x C x H x W` as a network is given them.
            heat_maps: As of the trained one.
            channel: Of the logits.
        """
        with torch.no_grad():
            return [heat_of(heat_maps, net, given, channel=channel)[1] for net in self._nets]


def as_given(module: SupervisedModule, images: Tensor) -> Tensor:
    """uint8 images `B x C x H x W` as the network is given them: normalised, on its device, in its memory format."""
    return module.normalize(images.to(module.device)).contiguous(memory_format=module.memory_format)
