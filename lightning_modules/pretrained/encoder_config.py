"""Settings of an encoder and its weights, in a file of their own to be checked without PyTorch."""

from pathlib import Path

from datamodules.arguments import config_dataclass

# torchvision builds these networks differently if they have weights: they convert their input
BUILT_BY_WEIGHTS = ("googlenet", "inception_v3")


@config_dataclass
class EncoderConfig:
    """Encoder of a network, or a whole classifier without its head, by name.

    Attributes:
        name: Name in segmentation-models-pytorch, timm or torchvision, such as `resnet34`.
        weights: `imagenet`, or another name that segmentation-models-pytorch has for weights of
            this encoder; `auto` for ImageNet weights if this machine has them, else from scratch; a
            local file with a state_dict; None to start from scratch.
        weights_folder: Folder of pretrained weights that is searched first; None for none.
    """

    name: str
    weights: str | None = "imagenet"
    weights_folder: str | Path | None = None
