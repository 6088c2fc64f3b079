"""A network with random weights in place of what it learned: what its heat maps find, no learning was needed for."""

from collections.abc import Iterable
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


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
    depends on the seed: take several, and `Localised.pooled`.

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
