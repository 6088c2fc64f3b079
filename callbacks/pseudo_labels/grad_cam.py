"""Heat maps of a classifier by the grad-cam library, a batch at a time, from the one forward that a prediction makes anyway."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from callbacks.pseudo_labels.activation_maps import CAM_METHODS, CAMMethod, upsample
from callbacks.pseudo_labels.layers import frozen_eval_mode, resolve_layers
from callbacks.pseudo_labels.listener import ActivationRecorder
from datamodules.arguments import validated
from datamodules.refusal import UserError
from lightning_modules.together import Ensemble


@validated
class ClassActivationMaps:
    """Heat maps of a classifier: where the logit of a class comes from.

    A heat map is the library's class activation map without its negative part, divided by its
    maximum: 0 is no evidence, 1 the strongest of this image, and half the height is half the
    evidence. The library's own `scale_cam_image` also subtracts the minimum, so that a map that is
    warm everywhere looks as if it pointed somewhere; up to that shift the two are the same. A map
    without any evidence stays all zero, which `heat.max() == 0` tells.

    Example:
        heat_maps: {method: LayerCAM, layers: [layer3, layer4]}

    Args:
        method: A class of pytorch_grad_cam: GradCAM (Selvaraju 2017), GradCAMPlusPlus (Chattopadhay
            2018), XGradCAM (Fu 2020), HiResCAM (Draelos 2020), GradCAMElementWise, LayerCAM (Jiang
            2021), FEM (Fuad 2020), and by a slow SVD of each image EigenCAM (Muhammad 2020),
            EigenGradCAM and SegEigenCAM (Chung 2025). EigenCAM and FEM look at no class. The sign
            of EigenCAM and EigenGradCAM is what the SVD happens to give, and the wrong one shows
            the background; SegEigenCAM mends that.
        layers: Names as in `named_modules`; the maps of several are averaged on the finest grid.
            None is the last stage. Of a transformer that reads its class token name the first norm
            of its last block: behind it the other tokens no longer count.
        cam_alignment: `center` or `corner` of its share of the canvas is where a cell looks, see
            `upsample`.
        key: What errors call this object.

    Raises:
        Refusal: the method or `cam_alignment` is unknown.
    """

    def __init__(
        self,
        method: str = "GradCAM",
        layers: Sequence[str] | str | None = None,
        cam_alignment: Literal["center", "corner"] = "center",
        key: str = "callbacks.pseudo_labels.heat_maps",
    ) -> None:
        if method not in CAM_METHODS:
            near = get_close_matches(str(method), CAM_METHODS, n=3, cutoff=0.4) or CAM_METHODS[:3]
            raise UserError(
                f"{key}.method={method} is no method of heat maps; did you mean"
                f" {' or '.join(near)}?"
            )
        self.method, self.layers, self.cam_alignment, self.key = method, layers, cam_alignment, key

    def upsample(self, heat: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """One heat map `h x w` at canvas size, float32."""
        return upsample(heat[None], size, self.cam_alignment)[0]

    @property
    def needs_gradients(self) -> bool:
        """Whether the method looks at gradients, which inference mode forbids."""
        return CAMMethod(self.method, self.key).needs_gradients

    @contextmanager
    def recording(self, net: nn.Module) -> Iterator[ActivationRecorder]:
        """Hears every forward of the network, whoever calls it; after each, `heat()` of what is yielded makes the maps of that batch.

        The forward gives the same logits as ever, and up to the first layer it costs no autograd.
        Meanwhile the network is in evaluation mode, runs without torch.compile, and its parameters
        ask for no gradients; afterwards all is as it was.

        Args:
            net: From float `B x C x H x W` to logits `B x classes`. Of several networks together
                the layers are those of the first, and of mirrored views the first is mapped.

        Raises:
            Refusal: a layer that the network does not have; in the forward: under inference mode,
                or a layer that gives no map.
        """
        listened = net.nets[0] if isinstance(net, Ensemble) else net
        names = resolve_layers(listened, self.layers, f"{self.key}.layers")
        listener = ActivationRecorder(CAMMethod(self.method, self.key, self.cam_alignment), names)
        handles = [
            listened.get_submodule(name).register_forward_hook(listener.make_layer_hook(name))
            for name in names
        ]
        handles.append(net.register_forward_pre_hook(listener.network_pre_hook, with_kwargs=True))
        handles.append(net.register_forward_hook(listener.network_hook, always_call=True))
        try:
            with (
                frozen_eval_mode(net),
                torch.compiler.set_stance("force_eager"),
            ):  # what was compiled before does not know the hooks
                yield listener
        finally:
            listener.restore_grad_mode()
            for handle in handles:
                handle.remove()


def compute_cam(
    heat_maps: ClassActivationMaps,
    net: nn.Module,
    images: Tensor,
    forward: Callable[[Tensor], Tensor] | None = None,
    channel: int = 0,
) -> tuple[Tensor, np.ndarray]:
    """Logits and heat maps of one batch, for loops outside Lightning.

    Args:
        heat_maps: Which.
        net: The classifier.
        images: What `forward` takes.
        forward: What calls the classifier, such as a module that normalises first; None is the
            classifier itself.
        channel: Of the logits.

    Returns:
        Logits `B x classes`, and float32 `B x h x w` in 0..1.

    Raises:
        Refusal: as `HeatMaps.listening` and `Listener.heat`.
    """
    with heat_maps.recording(net) as listener:
        logits = (forward or net)(images)
        return logits, listener.compute(channel)
