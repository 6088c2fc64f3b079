"""Image sizes of networks: arguments for networks of one size, and checks of the input."""

import copy
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.errors import UserError
from datamodules.image_size import ImageSize, ImageSizeLike

# errors of libraries for an image that a network cannot process
REFUSALS = (AssertionError, ValueError, RuntimeError)
ONE_VALUE = "more than 1 value per channel"  # part of PyTorch's message for BatchNorm in training
LARGEST_SIDE, STEP = 1024, 32  # sizes in pixels that are tried for a suggestion


def timm_size_arguments(
    architecture: str, image_size: ImageSizeLike | None, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of timm's constructor for an image size.

    Networks with windows or position embeddings are built for one size; timm resamples their
    pretrained weights to it.

    Args:
        architecture: Name in timm.
        image_size: Size of the images; None leaves the size to timm.
        given: Arguments that the user gave, which are not changed.
    """
    from lightning_modules.library_imports import timm

    try:
        known = timm.get_pretrained_cfg(architecture)
    except RuntimeError:  # unknown tag of weights, for which the constructor has a better message
        return {}
    if image_size is None or "img_size" in given or known is None or not known.fixed_input_size:
        return {}
    size = ImageSize.from_config(image_size)
    return {} if (size.height, size.width) == known.input_size[1:] else {"img_size": tuple(size)}


def torchvision_size_arguments(
    architecture: str, image_size: ImageSizeLike | None, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of torchvision's constructor, whose pretrained weights have one size."""
    if image_size is None:
        return {}
    size = ImageSize.from_config(image_size)
    if architecture.startswith("vit_") and "image_size" not in given and size.height == size.width:
        return {"image_size": size.height}
    if architecture.startswith("maxvit_") and "input_size" not in given:
        return {"input_size": tuple(size)}
    return {}


def check_input(net: nn.Module, channels: int, size: ImageSize, batch_size: int) -> None:
    """Refuse images that a network cannot process, without computing anything.

    Args:
        net: Network in the mode (training or evaluation) of its use; it is not changed.
        channels: Channels of the images.
        size: Size of the images.
        batch_size: Images in one BatchNorm batch.

    Raises:
        UserError: The network cannot process them; the message names a size that works, or asks for
            a larger batch.
    """
    error = _forward_error(net, (min(batch_size, 2), channels, *size))
    if error is None:
        return
    message = " ".join(str(error).split()).rstrip(".")[:120]
    name = type(net).__name__
    if ONE_VALUE in message:
        raise UserError(
            f"batch_size=1 gives BatchNorm in {name} a single value per channel at"
            f" image_size={size.as_config}, so it cannot be trained; set"
            " datamodule.batch_size=2 (and batch_size of each stage of a curriculum), or use a"
            " network without BatchNorm"
        ) from error
    fitting = list(_sides_that_fit(net, channels, size, batch_size))
    fix = (
        f"set image_size={' or image_size='.join(map(str, fitting))}"
        if fitting
        else "correct module.net, or datamodule.channels"
    )
    raise UserError(
        f"{name} cannot take {channels}-channel images of image_size={size.as_config} ({message});"
        f" {fix}"
    ) from error


def _forward_error(net: nn.Module, shape: tuple[int, ...]) -> Exception | None:
    """Return the error of a network for images of a shape, or None if it accepts them.

    Only shapes are computed (meta device). If this fails, it is repeated with zeros.
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
    """Return a copy, because a forward pass may change a network (statistics, window sizes)."""
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
    """Yield the nearest smaller and larger side of a square that a network accepts, if any."""
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
