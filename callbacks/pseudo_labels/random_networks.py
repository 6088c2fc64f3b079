"""Networks with other random weights beside the trained one: what their heat maps find, no learning was needed for."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from callbacks.pseudo_labels.grad_cam import ClassActivationMaps, compute_cam
from callbacks.pseudo_labels.randomised import randomize_weights
from datamodules.base import ManifestDataModule
from lightning_modules.supervised import SupervisedModule

N_BATCHNORM_IMAGES = 32  # images of train on which BatchNorm statistics are counted


class WeightRandomizationBaseline:
    """Several of them, drawn anew for each prediction.

    Args:
        n_networks: How many.
    """

    def __init__(self, n_networks: int) -> None:
        self.n_networks = n_networks
        self._nets: list[nn.Module] = []

    def initialize(self, module: SupervisedModule, data: ManifestDataModule) -> None:
        """Draws them; the trained network stays as it is, and nothing listens to it yet."""
        size, canvas = max(2, data.eval_batch_size), data.trained_image_size()
        ids = (
            data.table.rows["id"]
            .to_numpy()[data.table.where("train")][: max(N_BATCHNORM_IMAGES, size)]
            .tolist()
        )
        ids = ids or data.table.rows["id"].tolist()[:N_BATCHNORM_IMAGES]  # a folder has no train
        parts = [ids[start : start + size] for start in range(0, len(ids), size)]
        images = [data.dataset(evaluation=True).batch(part, canvas)["image"] for part in parts]
        self._nets = [
            randomize_weights(
                module.net, seed, (preprocess(module, each) for each in images)
            ).eval()
            for seed in range(self.n_networks)
        ]

    def compute(
        self, inputs: Tensor, heat_maps: ClassActivationMaps, channel: int
    ) -> Sequence[np.ndarray]:
        """float32 `B x h x w` of each network.

        Args:
            inputs: `B x C x H x W` as a network is given them.
            heat_maps: As of the trained one.
            channel: Of the logits.
        """
        with torch.no_grad():
            return [compute_cam(heat_maps, net, inputs, channel=channel)[1] for net in self._nets]


def preprocess(module: SupervisedModule, images: Tensor) -> Tensor:
    """uint8 images `B x C x H x W` as the network is given them: normalised, on its device, in its memory format."""
    return module.normalize(images.to(module.device)).contiguous(memory_format=module.memory_format)
