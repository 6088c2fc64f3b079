"""Baselines of localization: brightest blob, and networks with random weights."""

from collections.abc import Iterable, Sequence
from copy import deepcopy

import numpy as np
import torch
from skimage.filters import gaussian
from skimage.util import img_as_float32
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from datamodules.arguments import PositiveFloat, validated
from datamodules.base import ManifestDataModule
from datamodules.loading.letterbox import ContentBox
from evaluation.localization import Proposals
from lightning_modules.base import SupervisedModule
from weak_supervision.boxes import PeakBoxes
from weak_supervision.cam import ClassActivationMaps, compute_cam


@validated
class BrightestBlobBaseline:
    """Baseline that uses the smoothed image as heat map and boxes its highest local maxima.

    Boxes are made as by the method that it is compared with. A box's score is the smoothed
    intensity as a fraction of the data type's maximum (255 for uint8), not of the image's own
    maximum, with which every image would have a first box of score 1, and the FROC could not rank
    images. Lesions are assumed to be bright, as in a bone scan.

    ```yaml
    brightest_blob: {_target_: weak_supervision.baselines.BrightestBlobBaseline, sigma: 4, boxes:
        {...}}
    ```

    Args:
        sigma: Standard deviation of the Gaussian in pixels.
        boxes: Conversion of peaks to boxes; by default as for heat maps, but without a minimum
            height of a peak, because a full bladder would then exclude all other peaks.

    Raises:
        UserError: `sigma` is not above 0.
    """

    def __init__(self, sigma: PositiveFloat = 4.0, boxes: PeakBoxes | None = None) -> None:
        self.sigma, self.boxes = sigma, boxes or PeakBoxes(at_least=0.0)

    def __call__(self, image: np.ndarray, content: ContentBox | None = None) -> Proposals:
        """Find peaks and boxes in pixels of the image; an image of one value has none.

        Args:
            image: Gray, `H x W` of whole numbers or of floats in 0..1.
            content: Position of the image on the canvas, if it is a canvas; None is all of it.

        Raises:
            ValueError: The image has colors.
        """
        if image.ndim != 2:
            raise ValueError(f"the image is {image.shape}; give one gray image, height x width")
        content = content or ContentBox(0, 0, *image.shape)
        rows, columns = (
            slice(content.top, content.top + content.height),
            slice(content.left, content.left + content.width),
        )
        picture = img_as_float32(image[rows, columns])
        smooth = np.zeros(image.shape, np.float32)
        if np.ptp(picture):  # rounding would cause blobs in a uniform image
            smooth[rows, columns] = gaussian(picture, self.sigma, mode="nearest")
        return self.boxes(smooth, content)


def randomize_weights(net: nn.Module, seed: int = 0, batches: Iterable[Tensor] = ()) -> nn.Module:
    """Copy a network and randomize every parameter.

    This is the full randomization of Adebayo et al. 2018, Sanity checks for saliency maps.

    Parameters that a module's `reset_parameters` covers are initialized as in a new module. The
    rest (tokens, position tables, gains) is sampled from a normal distribution of its own mean and
    spread, so that signals stay in range; a single number stays what it is.

    BatchNorm's statistics belong to the old weights, and are reset to 0 and 1. With these a deep
    network is not a fair baseline: the last features of a resnetrs50 spread by .0002, all images
    have the same logit, and Grad-CAM's ReLU leaves everything or nothing, depending on the head's
    random signs (measured). Therefore pass a few batches: the statistics are then computed on them,
    as in the first steps of a training, and features spread by about 1. The positive part of a map
    still depends on the seed, so use several networks and `LocalizationResults.pool`.

    Args:
        net: Network, which is not changed. The copy has its device, dtype, memory format and
            training flags.
        seed: Seed, which gives the same numbers on every device; the global random state is not
            changed.
        batches: Preprocessed training images `B x C x H x W`, two or more per batch; without any
            the statistics stay reset.
    """
    copy = deepcopy(net)
    device = next(copy.parameters()).device
    copy.cpu()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed GPUs, too
        _reinitialize(copy)
    copy.to(device)
    _recompute_batchnorm_statistics(copy, batches)
    return copy


def _reinitialize(net: nn.Module) -> None:
    """Reinitialize the parameters; NaN marks those that no `reset_parameters` covers."""
    floats = [parameter for parameter in net.parameters() if parameter.is_floating_point()]
    own = [parameter.clone() for parameter in floats]
    for parameter in floats:
        parameter.fill_(torch.nan)
    for module in net.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
    for parameter, old in zip(floats, own, strict=True):
        if parameter.isnan().any():
            old = old.float()
            parameter.copy_(old.mean() + old.std(correction=0) * torch.randn(old.shape))


def _recompute_batchnorm_statistics(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set BatchNorm's running statistics to the plain mean over the batches.

    Everything else runs as in evaluation.
    """
    layers = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    momenta, training = (
        [layer.momentum for layer in layers],
        {module: module.training for module in net.modules()},
    )
    net.eval()
    for layer in layers:
        layer.train()
        layer.momentum = None  # a cumulative mean
    with torch.no_grad():
        for batch in batches:
            net(batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    for module, flag in training.items():
        module.training = flag


N_BATCHNORM_IMAGES = 32  # images of train for the BatchNorm statistics


class WeightRandomizationBaseline:
    """Baseline of heat maps from networks with random weights, sampled again for each prediction.

    Lesions that these maps find are found without training.

    Args:
        n_networks: Number of networks.
    """

    def __init__(self, n_networks: int) -> None:
        self.n_networks = n_networks
        self._nets: list[nn.Module] = []

    def initialize(self, module: SupervisedModule, data: ManifestDataModule) -> None:
        """Create the random networks.

        The trained network is not changed, and must have no hooks yet.
        """
        size, canvas = max(2, data.eval_batch_size), data.current_image_size()
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
        """Compute the heat maps of each network, float32 `B x h x w`.

        Args:
            inputs: Preprocessed images, `B x C x H x W`.
            heat_maps: Method and layers, as for the trained network.
            channel: Channel of the logits.
        """
        with torch.no_grad():
            return [compute_cam(heat_maps, net, inputs, channel=channel)[1] for net in self._nets]


def preprocess(module: SupervisedModule, images: Tensor) -> Tensor:
    """Preprocess uint8 images `B x C x H x W` as the module does for its network.

    They are moved to its device, normalized, and converted to its memory format.
    """
    return module.normalize(images.to(module.device)).contiguous(memory_format=module.memory_format)
