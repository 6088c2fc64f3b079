"""Baselines of localization: brightest blob, and networks with random weights."""

from collections.abc import Iterable, Sequence
from copy import deepcopy

import numpy as np
import torch
from skimage.filters import gaussian
from skimage.util import img_as_float32
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from datamodules.base import ManifestDataModule
from datamodules.errors import UserError
from datamodules.loading.letterbox import ContentBox
from evaluation.localization import Proposals
from lightning_modules.base import SupervisedModule
from weak_supervision.boxes import PeakBoxes
from weak_supervision.cam import ClassActivationMaps, compute_cam


class BrightestBlobBaseline:
    """Takes the smoothed picture for a heat map: its highest local maxima are the peaks, and boxes are those of the method it is compared with.

    A box's score is the smoothed intensity as a share of what the data type holds (255 of uint8),
    not of the picture's own maximum: every picture would have a first box of score 1 then, and the
    FROC could not tell pictures apart. Bright is what counts, as in a bone scan.

    ```yaml
    brightest_blob: {_target_: weak_supervision.baselines.BrightestBlobBaseline, sigma: 4, boxes:
        {...}}
    ```

    Args:
        sigma: Of the Gaussian, in pixels of the image it is given.
        boxes: How peaks become boxes; by default as of heat maps, but for the least height of a
            peak: beside a full bladder it would drop the rest.

    Raises:
        Refusal: sigma is not above 0.
    """

    def __init__(self, sigma: float = 4.0, boxes: PeakBoxes | None = None) -> None:
        if not sigma > 0:
            raise UserError(
                f"the brightest blob has sigma={sigma}, which is not a number of pixels above 0;"
                " write sigma=4, for instance"
            )
        self.sigma, self.boxes = sigma, boxes or PeakBoxes(at_least=0.0)

    def __call__(self, image: np.ndarray, content: ContentBox | None = None) -> Proposals:
        """Peaks and boxes in pixels of the image; none of an even picture.

        Args:
            image: Grey, `H x W` of whole numbers or of floats in 0..1.
            content: The picture's place on it, where it is a canvas; None if it is all of it.

        Raises:
            ValueError: an image with colours.
        """
        if image.ndim != 2:
            raise ValueError(f"the image is {image.shape}; give one grey image, height x width")
        content = content or ContentBox(0, 0, *image.shape)
        rows, columns = (
            slice(content.top, content.top + content.height),
            slice(content.left, content.left + content.width),
        )
        picture = img_as_float32(image[rows, columns])
        smooth = np.zeros(image.shape, np.float32)
        if np.ptp(picture):  # rounding would make blobs of an even one
            smooth[rows, columns] = gaussian(picture, self.sigma, mode="nearest")
        return self.boxes(smooth, content)


def randomize_weights(net: nn.Module, seed: int = 0, batches: Iterable[Tensor] = ()) -> nn.Module:
    """A copy of a network whose every parameter is drawn anew (full randomisation of Adebayo et al. 2018, Sanity checks for saliency maps).

    What `reset_parameters` of a module covers is initialised as a new one is. The rest (tokens,
    position tables, gains) is drawn from a normal of its own mean and spread, so that signals stay
    in range; a single number stays what it is.

    BatchNorm's statistics belong to the old weights, and are reset to 0 and 1. With these a deep
    network is no fair opponent: the last features of a resnetrs50 spread by .0002, all images have
    the same logit, and Grad-CAM's ReLU leaves everything or nothing, whichever the head's random
    signs say (measured). So give a few batches: the statistics are counted anew on them, as in
    training's first steps, and features spread by about 1. How much of a map is positive still
    depends on the seed: take several, and `LocalizationResults.pool`.

    Args:
        net: Stays as it is. Device, dtype, memory format and training flags of the copy are its
            own.
        seed: The same numbers on every device; the global random state is left alone.
        batches: Images `B x C x H x W` as the network is given them, of train, two or more a batch;
            none leaves the reset statistics.
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
    """What a reset has covered is told by a mark: it leaves no NaN."""
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
    """BatchNorm's running statistics become the plain mean over the batches; everything else runs as in evaluation."""
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
