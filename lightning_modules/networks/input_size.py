"""Image sizes that a network takes: fixed ones given to its constructor, others refused."""

import copy
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.errors import UserError
from datamodules.image_size import ImageSize, ImageSizeLike

REFUSALS = (AssertionError, ValueError, RuntimeError)  # of libraries, for an image they cannot take
ONE_VALUE = "more than 1 value per channel"  # PyTorch's words for BatchNorm in training
LARGEST_SIDE, STEP = 1024, 32  # pixels, of the sizes that are tried for a refusal


def timm_size_arguments(
    architecture: str, image_size: ImageSizeLike | None, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what timm's constructor needs to be told of the image size.

    Networks with windows or position embeddings are built for one size; their pretrained weights
    are resampled to it by timm.

    Args:
        architecture: As timm spells it.
        image_size: Size of the images; None leaves the size to timm.
        given: Arguments that the user gave, which stay as they are.
    """
    from lightning_modules.networks.library_imports import timm

    try:
        known = timm.get_pretrained_cfg(architecture)
    except RuntimeError:  # a tag of weights that there is not, of which the constructor says more
        return {}
    if image_size is None or "img_size" in given or known is None or not known.fixed_input_size:
        return {}
    size = ImageSize.from_config(image_size)
    return {} if (size.height, size.width) == known.input_size[1:] else {"img_size": tuple(size)}


def torchvision_size_arguments(
    architecture: str, image_size: ImageSizeLike | None, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the same for torchvision, whose pretrained weights have one size alone."""
    if image_size is None:
        return {}
    size = ImageSize.from_config(image_size)
    if architecture.startswith("vit_") and "image_size" not in given and size.height == size.width:
        return {"image_size": size.height}
    if architecture.startswith("maxvit_") and "input_size" not in given:
        return {"input_size": tuple(size)}
    return {}


def check_input(net: nn.Module, channels: int, size: ImageSize, batch_size: int) -> None:
    """Refuse images that a network cannot take, without computing anything.

    Args:
        net: In training or evaluation mode, as it will see the images; it is left as it is.
        channels: Channels of the images.
        size: Their size.
        batch_size: Images that BatchNorm sees together.

    Raises:
        UserError: The sentence says which size works, or that a batch needs another image.
    """
    error = _forward_error(net, (min(batch_size, 2), channels, *size))
    if error is None:
        return
    said = " ".join(str(error).split()).rstrip(".")[:120]
    name = type(net).__name__
    if ONE_VALUE in said:
        raise UserError(
            f"batch_size=1 gives BatchNorm in {name} a single value per channel at"
            f" image_size={size.as_config}, from which nothing can be learned; set"
            " datamodule.batch_size=2 (and batch_size of each stage of a curriculum), or take a"
            " network whose norm is not of the batch"
        ) from error
    fitting = list(_sides_that_fit(net, channels, size, batch_size))
    mend = (
        f"set image_size={' or image_size='.join(map(str, fitting))}"
        if fitting
        else "correct module.net, or datamodule.channels"
    )
    raise UserError(
        f"{name} cannot take {channels}-channel images of image_size={size.as_config} ({said});"
        f" {mend}"
    ) from error


def _forward_error(net: nn.Module, shape: tuple[int, ...]) -> Exception | None:
    """Return what a network raises for images of a shape, None if it takes them.

    Shapes alone are computed. What PyTorch cannot do so, and what fails so, is tried with zeros.
    """
    try:
        _forward(_copy(net, meta=True), torch.empty(shape, device="meta"))
    except Exception:
        own = _copy(net, meta=False)
        try:
            _forward(own, torch.zeros(shape))
        except torch.OutOfMemoryError:
            raise
        except REFUSALS as error:
            return error
    return None


def _forward(net: nn.Module, image: Tensor) -> None:
    with (
        torch.random.fork_rng(devices=[]),
        torch.no_grad(),
        torch.compiler.set_stance("force_eager"),
    ):
        net(image)


def _copy(net: nn.Module, meta: bool) -> nn.Module:
    """Copy a network, because a forward pass may change it (statistics, sizes of windows)."""
    if not meta:
        return copy.deepcopy(net).cpu()
    without_data: dict[int, Any] = {
        id(tensor): (
            nn.Parameter(tensor.detach().to("meta"), requires_grad=tensor.requires_grad)
            if isinstance(tensor, nn.Parameter)
            else tensor.detach().to("meta")
        )
        for tensor in chain(net.parameters(), net.buffers())
    }
    return copy.deepcopy(net, without_data)


def _sides_that_fit(
    net: nn.Module, channels: int, size: ImageSize, batch_size: int
) -> Iterator[int]:
    """Yield the nearest smaller and larger side of a square that a network takes, if any."""
    wanted = max(size)
    smaller = [side for side in range(STEP, LARGEST_SIDE + 1, STEP) if side <= wanted]
    larger = [side for side in range(STEP, LARGEST_SIDE + 1, STEP) if side > wanted]
    for sides in (smaller[::-1], larger):
        for side in sides:
            shape = (min(batch_size, 2), channels, side, side)
            try:
                _forward(_copy(net, meta=True), torch.empty(shape, device="meta"))
            except Exception:
                continue
            yield side
            break
