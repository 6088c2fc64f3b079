"""Requests of pretrained weights, from the configuration of a network."""

import difflib
from pathlib import Path
from typing import Any, Literal

from datamodules.arguments import check_value
from datamodules.errors import UserError
from lightning_modules.pretrained.encoder_config import EncoderConfig
from lightning_modules.pretrained.resolver import WeightsRequest
from lightning_modules.pretrained.sources import (
    AUTO,
    IMAGENET,
    HubWeights,
    UrlWeights,
    smp_weights,
    timm_weights,
    torchvision_weights,
    transformers_weights,
)

WEIGHTS_KEY = "module.net.encoder.weights"
SAM2_ALTERNATIVE = (
    "take callbacks.pseudo_labels.segmenter._target_="
    "weak_supervision.segmenters.classical.RandomWalkerSegmenter, which needs none"
)
UPERNET_KEY = "module.net.weights"
SAM2_KEY = "callbacks.pseudo_labels.segmenter.weights"


def encoder_name(name: str) -> str:
    """Return the name of an encoder in smp: its own, else that of timm with the prefix `tu-`."""
    from lightning_modules.library_imports import smp, timm

    if smp.encoders.is_equivalent_to_timm_universal(name):  # names of older versions
        new = name.replace("timm-", "tu-")
        return new.replace("tu-", "tu-tf_") if "mobilenetv3" in new else new
    if name in smp.encoders.encoders or name.startswith("tu-"):
        return name
    return f"tu-{name}" if timm.is_model(name.split(".")[0]) else name


def check_encoder_name(encoder: str) -> None:
    """Refuse the name of an encoder that neither smp nor timm has.

    Raises:
        UserError: It is unknown; the message names similar ones.
    """
    from lightning_modules.library_imports import smp, timm

    name = encoder_name(encoder)
    if name in smp.encoders.encoders or timm.is_model(name.removeprefix("tu-").split(".")[0]):
        return
    known = dict.fromkeys([*smp.encoders.encoders, *timm.list_models()])
    near = difflib.get_close_matches(encoder, known, n=3, cutoff=0.4)
    raise UserError(
        f"module.net.encoder.name={encoder} is an encoder of neither segmentation_models_pytorch"
        f" nor timm; choose {' or '.join(near) or 'one of module/net/encoder'}"
    )


def check_classifier_name(library: str, network: str) -> None:
    """Refuse the name of a classifier that its library does not have.

    Args:
        library: `timm` or `torchvision`.
        network: Name of the network.

    Raises:
        UserError: It is unknown; the message names similar ones.
    """
    check_value("module.net.library", library, Literal["timm", "torchvision"])
    from lightning_modules.library_imports import smp, timm

    if library == "timm":
        available = timm.list_models()
        known = bool(timm.is_model(network.split(".")[0]))
    else:
        from torchvision.models import list_models

        available = list_models()
        known = network in available
    if known:
        return
    if network in smp.encoders.encoders:
        raise UserError(
            f"module.net.encoder.name={network} is an encoder of segmentation_models_pytorch, for"
            " segmentation only; take another one, such as module/net/encoder=lite0"
        )
    near = difflib.get_close_matches(network, available, n=3, cutoff=0.4)
    raise UserError(
        f"{library} has no network '{network}'; choose"
        f" {' or '.join(near) or 'one of its list_models()'}"
    )


def encoder_request(encoder: EncoderConfig) -> WeightsRequest | None:
    """Return the request for the weights of an encoder of segmentation-models-pytorch.

    Args:
        encoder: Name and weights of the encoder.

    Returns:
        The request; None for a network from scratch.

    Raises:
        UserError: The library has no weights of this name for this encoder.
    """
    if encoder.weights is None:
        return None
    from lightning_modules.library_imports import smp

    check_encoder_name(encoder.name)
    name = encoder_name(encoder.name)
    value = IMAGENET if encoder.weights == AUTO else encoder.weights
    source: HubWeights | UrlWeights | None
    if name in smp.encoders.encoders:
        source = smp_weights(name, value)
        known = list(smp.encoders.encoders[name]["pretrained_settings"])
    else:
        name = name.removeprefix("tu-")
        source = timm_weights(name)
        known = [IMAGENET]
    request = _request(WEIGHTS_KEY, encoder, name, source)
    if not request.is_path and value not in known:
        raise UserError(
            f"{WEIGHTS_KEY}={encoder.weights} is not known for {encoder.name}; choose"
            f" {', '.join(known) or 'none, because the library publishes none'}, auto, null, or a"
            " local file"
        )
    return request


def classifier_request(library: str, encoder: EncoderConfig) -> WeightsRequest | None:
    """Return the request for the weights of a classifier; None for a network from scratch.

    Args:
        library: `timm` or `torchvision`.
        encoder: Name and weights of the network.

    Raises:
        UserError: The library has no weights of this name.
    """
    if encoder.weights is None:
        return None
    check_classifier_name(library, encoder.name)
    source = timm_weights if library == "timm" else torchvision_weights
    request = _request(WEIGHTS_KEY, encoder, encoder.name, source(encoder.name))
    if not request.is_path and encoder.weights not in (IMAGENET, AUTO):
        raise UserError(
            f"{WEIGHTS_KEY}={encoder.weights} is neither imagenet nor a local file; choose"
            " imagenet, auto, null, or a local file"
        )
    return request


def _request(key: str, encoder: EncoderConfig, network: str, source: Any) -> WeightsRequest:
    folder = None if encoder.weights_folder is None else Path(encoder.weights_folder)
    return WeightsRequest(key, str(encoder.weights), network, source, folder)


def transformers_request(
    key: str, weights: str, network: str, folder: str | Path | None, alternative: str = ""
) -> WeightsRequest:
    """Return the request for a network of transformers.

    Args:
        key: Configuration key of the weights.
        weights: Name on the hub, or a local folder.
        network: Kind of the network, for messages.
        folder: The folder of pretrained weights; None for none.
        alternative: Another way without these weights, for the message.
    """
    return WeightsRequest(
        key,
        weights,
        network,
        transformers_weights(weights),
        None if folder is None else Path(folder),
        several_files=True,
        alternative=alternative,
    )


def sam2_request(weights: str, folder: str | Path | None) -> WeightsRequest:
    """Return the request for the weights of a SAM 2 of transformers."""
    return transformers_request(SAM2_KEY, weights, "SAM 2", folder, SAM2_ALTERNATIVE)
