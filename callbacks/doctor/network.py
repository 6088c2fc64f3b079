"""The network whose step is measured: the experiment's own, untrained, else a small U-Net."""

from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from callbacks.doctor.services import requested_weights
from callbacks.runs.sentences import user_message
from lightning_modules.architectures import smp
from lightning_modules.cross_entropy import BCELoss
from lightning_modules.make import instantiate_config
from lightning_modules.segmentation import SegmentationModule
from lightning_modules.supervised import SupervisedModule

TOO_MANY_PARAMETERS = "too many for a minute on a CPU"
MAX_CPU_PARAMETERS = 40e6  # parameters that a CPU is measured with


def build_network(cfg: DictConfig, device: str) -> tuple[SupervisedModule, dict[str, Any]]:
    """Make the module to be measured, and describe it.

    Args:
        cfg: Of the experiment; left as it is.
        device: `cpu`, `cuda` or `mps`, on which it is to be measured.

    Returns:
        A module, and its `name`, `parameters`, whether it is the experiment's `own`, and where it
        is not, `why`, and as `refused` the sentence that a run would end with.
    """
    said: dict[str, Any] = {"own": True, "name": _network_name(cfg.module.net)}
    try:
        module = instantiate_config(_without_weights(cfg).module)
        parameters = sum(parameter.numel() for parameter in module.parameters())
        if parameters > MAX_CPU_PARAMETERS and device == "cpu":
            module, said = _small_network(
                cfg, f"{said['name']} has {parameters / 1e6:.0f} M, {TOO_MANY_PARAMETERS}"
            )
    except Exception as error:
        sentence = user_message(error)
        module, said = _small_network(cfg, f"{type(error).__name__} in {said['name']}")
        said["refused"] = sentence[0] if sentence else None
    return module, {
        **said,
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
    }


def _network_name(net: DictConfig) -> str:
    return (
        str(net.architecture)
        if "architecture" in net
        else _network_name(net.net)
        if "net" in net
        else str(net._target_).split(".")[-1]
    )


def _without_weights(cfg: DictConfig) -> DictConfig:
    plain = cfg.copy()
    for key, _ in requested_weights(cfg):
        OmegaConf.update(plain, key, None)
    OmegaConf.update(plain, "module.compile", False)  # it would take minutes
    return plain


def _small_network(cfg: DictConfig, why: str) -> tuple[SupervisedModule, dict[str, Any]]:
    net = smp.Unet(
        "resnet18",
        encoder_weights=None,
        encoder_depth=3,
        decoder_channels=[64, 32, 16],
        in_channels=cfg.datamodule.channels,
    )
    module = SegmentationModule(
        ["lesion"], net=net, loss=BCELoss(), optimizer=partial(torch.optim.AdamW, lr=1e-4)
    )
    return module, {"own": False, "name": "small U-Net", "why": why}
