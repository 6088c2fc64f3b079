"""Export of a trained network to ONNX: uint8 images in, float32 logits out."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.errors import UserError
from datamodules.image_size import ImageSize
from deployment.bundle_reader import INPUT_NAME, MAX_BATCH, OUTPUT_NAME
from deployment.trained_network import TrainedNetwork, plain_network

EXAMPLE_BATCH = 2  # a batch of one would become a constant of the graph


class InferenceNetwork(nn.Module):
    """Network with its normalization, as it is exported.

    Args:
        normalize: Normalization of uint8 images.
        net: Network without adapters.
    """

    def __init__(self, normalize: nn.Module, net: nn.Module) -> None:
        super().__init__()
        self.normalize = normalize
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        """Convert uint8 `B x C x H x W` to float32 logits."""
        return self.net(self.normalize(image)).float()


def export_onnx(trained: TrainedNetwork, path: Path) -> None:
    """Write the network of a run as ONNX and check the file.

    Weights lie inside the file, so it is limited to 2 GB. The number of images in a batch is free,
    up to `MAX_BATCH`; the image size is that of the weights.

    Args:
        trained: Network of a run; it is not changed.
        path: File to write.

    Raises:
        UserError: A package is missing, or the network cannot be exported.
    """
    onnx = _import_packages()
    module = trained.module
    net = InferenceNetwork(module.normalize, plain_network(module)).eval()
    net = net.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    size = trained.preprocessing.image_size
    image = _example(trained.preprocessing.channels, size)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of the exporter, which users cannot act on
            program = torch.onnx.export(
                net,
                (image,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=MAX_BATCH)},),
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                verbose=False,
            )
    except Exception as error:  # any operator of a user's own network may be unknown
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        name = type(getattr(module.net, "net", module.net)).__name__
        raise UserError(
            f"the network {name} of {trained.folder} cannot be exported to ONNX ({reason}); use it"
            " from Python with Predictor.from_run"
        ) from error
    assert program is not None
    program.save(str(path))
    onnx.checker.check_model(str(path), full_check=True)


def _example(channels: int, size: ImageSize) -> Tensor:
    """Return random images, uint8 `EXAMPLE_BATCH x C x H x W`."""
    generator = torch.Generator().manual_seed(0)
    shape = (EXAMPLE_BATCH, channels, size.height, size.width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def _import_packages() -> Any:
    """Import onnx, and see that the exporter's own package is there.

    Raises:
        UserError: One is not installed.
    """
    try:
        import onnx
        import onnx.checker
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"do=bundle needs the package {error.name}; install it with: uv sync --extra deploy"
        ) from error
    return onnx
