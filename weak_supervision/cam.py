"""Class activation maps, computed from activations that are recorded during the prediction."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.arguments import validated
from datamodules.errors import UserError
from lightning_modules.ensemble import first_network
from lightning_modules.networks.introspection import (
    frozen_eval_mode,
    hook_forward,
    hook_layers,
    resolve_layers,
    to_chw,
)

METHODS_WITHOUT_SVD = (
    "GradCAM",
    "GradCAMPlusPlus",
    "XGradCAM",
    "HiResCAM",
    "GradCAMElementWise",
    "LayerCAM",
    "FEM",
)
SVD_METHODS = ("EigenCAM", "EigenGradCAM", "SegEigenCAM")
CAM_METHODS = (
    METHODS_WITHOUT_SVD + SVD_METHODS
)  # methods of the library that need only a layer's activations and their gradients
MAX_SVD_CELLS = 4096  # the library computes a full SVD with cells x cells numbers per image


class CAMMethod:
    """CAM method that uses the formula of the grad-cam library's class of that name.

    Only `get_cam_image` of the class is used, not its hooks and its `forward`: those run a second
    forward pass and a backward pass to the input, keep activations that the network overwrites in
    place, refuse bfloat16, leave the network in evaluation mode, and subtract each map's minimum.

    Args:
        method: One of `CAM_METHODS`.
        key: Configuration key for error messages.
        alignment: Position of the cells, see `upsample`.
    """

    def __init__(self, method: str, key: str, alignment: str = "center") -> None:
        # the library imports matplotlib, scikit-learn and more, so it is imported only for heat
        # maps
        import pytorch_grad_cam

        self._cam = getattr(pytorch_grad_cam, method)(
            nn.Linear(1, 1), []
        )  # the class requires a network but does not use it
        self.method, self.key, self.alignment = method, key, alignment

    @property
    def needs_gradients(self) -> bool:
        """True if the method depends on a class, and so on gradients."""
        return self._cam.uses_gradients

    def compute(
        self, activations: Sequence[np.ndarray], gradients: Sequence[np.ndarray]
    ) -> np.ndarray:
        """Compute heat maps, without the negative part and divided by each image's maximum.

        Maps of several layers are averaged on the finest grid.

        Args:
            activations: float32 `B x C x h x w` of each layer.
            gradients: Gradients of the score with respect to them, of the same shapes; ignored if
                not needed.

        Returns:
            float32 `B x h x w` in 0..1; all zero for an image without positive evidence, or with
            numbers that are not finite.

        Raises:
            UserError: The method needs an SVD, and the layer has so many cells that it would not
                fit into memory.
        """
        by = list(gradients) if self.needs_gradients else [None for _ in activations]
        maps = [
            scale_to_unit_range(self._compute_layer(*pair))
            for pair in zip(activations, by, strict=True)
        ]
        if len(maps) == 1:
            return maps[0]
        finest = max((each.shape[1:] for each in maps), key=np.prod)
        return scale_to_unit_range(
            np.mean([upsample(each, finest, self.alignment) for each in maps], axis=0)
        )

    def _compute_layer(self, activations: np.ndarray, gradients: np.ndarray | None) -> np.ndarray:
        height, width = activations.shape[2:]
        if self.method in SVD_METHODS and height * width > MAX_SVD_CELLS:
            wrong = (
                f"{self.key}.method={self.method} would take an SVD of {height} x {width} cells,"
                f" more than {MAX_SVD_CELLS}"
            )
            raise UserError(
                f"{wrong}; name a later layer in {self.key}.layers, or set another method such as"
                " LayerCAM"
            )
        if not len(activations):
            return np.zeros((0, height, width), np.float32)
        return self._cam.get_cam_image(None, None, None, activations, gradients, False)


def scale_to_unit_range(maps: np.ndarray) -> np.ndarray:
    """Clip maps `B x h x w` at 0 and divide each by its maximum: float32 in 0..1.

    A map without positive values, or with values that are not finite, becomes all zero.
    """
    maps = (
        np.where(np.isfinite(maps).all(axis=(1, 2), keepdims=True), maps, 0)
        .clip(0)
        .astype(np.float64)
    )
    highest = maps.max(axis=(1, 2), keepdims=True, initial=0)
    return np.divide(maps, highest, out=np.zeros_like(maps), where=highest > 0).astype(np.float32)


def upsample(heat: np.ndarray, size: tuple[int, int], alignment: str = "center") -> np.ndarray:
    """Upsample heat maps `B x h x w` to canvas size, bilinearly between the centers of the cells.

    `center`: a cell is at the center of its part of the canvas, as in OpenCV, in the library and
        for patches.

    `corner`: a cell is at the upper left corner of its part, because a convolution of stride 2 that
        pads both sides is centered on the first of its two pixels. With `center`, maps of such a
        network (resnet18, resnet50) miss the lesion by half a cell. Networks with averaging
        shortcuts (resnetrs50) are in between.

    The highest pixel may be slightly below the highest cell, which may be between two pixels.

    Args:
        heat: Maps whose cells divide the canvas evenly.
        size: Height and width in pixels, such as an `ImageSize`.
        alignment: `center` or `corner`.

    Returns:
        float32 `B x height x width`.
    """
    if not len(heat):
        return np.zeros((0, *size), np.float32)
    if alignment == "corner":
        return np.stack(
            [
                _upsample_rows_corner_aligned(
                    _upsample_rows_corner_aligned(each, size[0]).T, size[1]
                ).T
                for each in heat
            ]
        )
    return F.interpolate(
        torch.from_numpy(heat).float()[:, None], size, mode="bilinear", align_corners=False
    )[:, 0].numpy()


def _upsample_rows_corner_aligned(rows: np.ndarray, length: int) -> np.ndarray:
    """Interpolate rows `n x m` to `length x m`.

    Row j is at j * length / n, and the last one repeats.
    """
    place = np.minimum(np.arange(length) * (len(rows) / length), len(rows) - 1)
    first = place.astype(int)
    share = (place - first).astype(np.float32)[:, None]
    return (rows[first] * (1 - share) + rows[np.minimum(first + 1, len(rows) - 1)] * share).astype(
        np.float32
    )


FP16_GRADIENT_SCALE = (
    2.0**10
)  # gradients are scaled in a float16 network, so that small ones do not become zero


class ActivationRecorder:
    """Recorder of the last forward pass, which computes its heat maps.

    `ClassActivationMaps.recording` creates it.

    Args:
        cam_method: CAM method.
        layer_names: Names of the layers.
    """

    def __init__(self, cam_method: CAMMethod, layer_names: Sequence[str]) -> None:
        self._cam_method, self._layer_names = cam_method, layer_names
        self._activations: dict[str, Tensor] = {}
        self._logits: Tensor | None = None
        self._grad_was_enabled: bool | None = None  # gradient mode before the running forward pass

    def compute(self, channel: int = 0, image_indices: Sequence[int] | None = None) -> np.ndarray:
        """Compute the heat maps of the last forward pass, with one backward pass per batch.

        It can be called once per forward pass; the backward pass ends at the first layer.

        Args:
            channel: Channel of the logits.
            image_indices: Images of the batch for which maps are computed; None is all.

        Returns:
            float32 `B x h x w` in 0..1 at the finest layer's resolution, see `ClassActivationMaps`;
            B is the number of mapped images.

        Raises:
            UserError: The forward pass does not use a layer, a layer gives no map, or the logits do
                not depend on the layers or have no such channel. RuntimeError: There was no forward
                pass since the last call.
        """
        if self._logits is None:
            raise RuntimeError(
                "compute() belongs to one forward of the network, and there was none since the last"
            )
        logits, self._logits = self._logits, None
        kept = [self._get_activation(name) for name in self._layer_names]
        gradients = (
            self._compute_gradients(logits, channel, kept)
            if self._cam_method.needs_gradients
            else []
        )
        self._activations.clear()
        which = list(range(len(logits)) if image_indices is None else image_indices)
        return self._cam_method.compute(
            [self._to_bchw(each, which) for each in kept],
            [self._to_bchw(each, which) for each in gradients],
        )

    def _get_activation(self, layer_name: str) -> Tensor:
        if layer_name not in self._activations:
            raise UserError(
                f"{self._cam_method.key}.layers names {layer_name}, which the network does not pass"
                " on its way to the logits; name another layer"
            )
        return self._activations[layer_name]

    def _compute_gradients(
        self, logits: Tensor, channel: int, activations: Sequence[Tensor]
    ) -> list[Tensor]:
        logits = logits.flatten(1) if logits.ndim > 1 else logits[:, None]
        if not 0 <= channel < logits.shape[1]:
            raise UserError(
                f"{self._cam_method.key}: channel {channel} is none of the network's"
                f" {logits.shape[1]} logits; count them from 0"
            )
        if not logits.requires_grad:
            names = ", ".join(self._layer_names)
            raise UserError(
                f"{self._cam_method.key}.layers: the logits do not depend on {names} in a way that"
                " gradients follow; name another layer"
            )
        scale = FP16_GRADIENT_SCALE if logits.dtype == torch.float16 else 1.0
        # images are independent in evaluation mode, so the gradient of the sum is that of each
        # image
        with torch.enable_grad():
            score = logits[:, channel].float().sum() * scale
        return [
            each / scale
            for each in torch.autograd.grad(score, list(activations), materialize_grads=True)
        ]

    def _to_bchw(self, tensor: Tensor, image_indices: Sequence[int]) -> np.ndarray:
        """Convert some images of any layout to float32 `B x C x h x w`."""
        tensor = tensor.detach()
        grids = [to_chw(tensor[row], self._aspect_ratio) for row in image_indices or [0]]
        if grids[0] is None or grids[0][0].numel() < 2:
            raise UserError(
                f"{self._cam_method.key}.layers names {' or '.join(self._layer_names)}, which gives"
                " no map; name a stage of the network"
            )
        return torch.stack(grids)[: len(image_indices)].numpy()  # type: ignore[arg-type]

    def make_layer_hook(self, layer_name: str) -> Callable[..., Tensor | None]:
        """Make a hook that keeps a layer's output and returns a copy.

        The output is the start of the graph, or a part of it after an earlier layer.
        """

        def keep_output(module: nn.Module, given: Any, output: Any) -> Tensor | None:
            """Keep the output and return a copy of it."""
            if layer_name in self._activations:
                return None
            if not isinstance(output, Tensor) or output.ndim not in (3, 4):
                raise UserError(
                    f"{self._cam_method.key}.layers names {layer_name}, which gives no map; name a"
                    " stage of the network"
                )
            kept = (
                output
                if output.requires_grad
                else output.detach().float().requires_grad_(self._cam_method.needs_gradients)
            )
            self._activations[layer_name] = kept
            return kept.to(output.dtype, copy=True)  # later layers may work in place

        return keep_output

    def network_pre_hook(
        self, net: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Start a forward pass with gradients, which costs nothing up to the first layer."""
        self._grad_was_enabled, self._logits = torch.is_grad_enabled(), None
        self._activations.clear()
        if self._cam_method.needs_gradients and torch.is_inference_mode_enabled():
            wrong = (
                f"{self._cam_method.key}.method={self._cam_method.method} needs gradients, which"
                " inference mode forbids"
            )
            raise UserError(f"{wrong}; set trainer.inference_mode=false")
        height, width = next(
            each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)
        ).shape[-2:]
        self._aspect_ratio = height / width
        torch.set_grad_enabled(self._cam_method.needs_gradients)

    def network_hook(self, net: nn.Module, args: Any, output: Any) -> Any:
        """End a forward pass, even a failed one: keep the logits' graph, return them detached."""
        self.restore_grad_mode()
        if isinstance(output, Tensor):
            self._logits = output
            return output.detach()
        return None

    def restore_grad_mode(self) -> None:
        """Restore the gradient mode from before the forward."""
        if self._grad_was_enabled is not None:
            torch.set_grad_enabled(self._grad_was_enabled)
            self._grad_was_enabled = None


@validated
class ClassActivationMaps:
    """Class activation maps of a classifier, which show the origin of a class's logit.

    A heat map is the library's class activation map without its negative part, divided by its
    maximum: 0 is no evidence, 1 the strongest of this image, and half the height is half the
    evidence. The library's own `scale_cam_image` also subtracts the minimum, so that a map that is
    high everywhere seems to point somewhere; up to that shift the two are equal. A map without any
    evidence stays all zero, so that `heat.max() == 0`.

    Example:
        heat_maps: {method: LayerCAM, layers: [layer3, layer4]}

    Args:
        method: A class of pytorch_grad_cam: GradCAM (Selvaraju 2017), GradCAMPlusPlus (Chattopadhay
            2018), XGradCAM (Fu 2020), HiResCAM (Draelos 2020), GradCAMElementWise, LayerCAM (Jiang
            2021), FEM (Fuad 2020), and by a slow SVD of each image EigenCAM (Muhammad 2020),
            EigenGradCAM and SegEigenCAM (Chung 2025). EigenCAM and FEM depend on no class. The sign
            of EigenCAM and EigenGradCAM is arbitrary, as that of an SVD, and the wrong one shows
            the background; SegEigenCAM corrects it.
        layers: Names as in `named_modules`; the maps of several are averaged on the finest grid.
            None is the last stage. For a transformer that reads its class token, name the first
            norm of its last block: after it the other tokens no longer count.
        cam_alignment: Position of a cell in its part of the canvas, `center` or `corner`, see
            `upsample`.
        key: Configuration key for error messages.

    Raises:
        UserError: The method or `cam_alignment` is unknown.
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
                f"{key}.method={method} is not a method of heat maps; did you mean"
                f" {' or '.join(near)}?"
            )
        self.method, self.layers, self.cam_alignment, self.key = method, layers, cam_alignment, key

    def upsample(self, heat: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Upsample one heat map `h x w` to canvas size, float32."""
        return upsample(heat[None], size, self.cam_alignment)[0]

    @property
    def needs_gradients(self) -> bool:
        """True if the method needs gradients, which inference mode forbids."""
        return CAMMethod(self.method, self.key).needs_gradients

    @contextmanager
    def recording(self, net: nn.Module) -> Iterator[ActivationRecorder]:
        """Record every forward pass of the network, for the heat maps of its batch.

        The context yields a recorder, whose `compute()` makes the maps of the last forward pass.
        Logits are unchanged, and up to the first layer there is no cost of autograd. Within the
        context the network is in evaluation mode, runs without torch.compile, and its parameters
        require no gradients; all of this is restored afterwards.

        Args:
            net: Network from float `B x C x H x W` to logits `B x classes`. For an `Ensemble`, the
                layers are those of the first network and the maps those of its first view.

        Raises:
            UserError: The network does not have a layer; or in the forward pass: inference mode is
                on, or a layer gives no map.
        """
        listened = first_network(net)
        names = resolve_layers(listened, self.layers, f"{self.key}.layers")
        listener = ActivationRecorder(CAMMethod(self.method, self.key, self.cam_alignment), names)
        with (
            hook_layers(listened, [(name, listener.make_layer_hook(name)) for name in names]),
            hook_forward(net, listener.network_pre_hook, listener.network_hook),
            frozen_eval_mode(net),
        ):
            try:
                yield listener
            finally:
                listener.restore_grad_mode()


def compute_cam(
    heat_maps: ClassActivationMaps,
    net: nn.Module,
    images: Tensor,
    forward: Callable[[Tensor], Tensor] | None = None,
    channel: int = 0,
) -> tuple[Tensor, np.ndarray]:
    """Compute logits and heat maps of one batch, for loops outside Lightning.

    Args:
        heat_maps: Method and layers.
        net: The classifier.
        images: Input of `forward`.
        forward: Function that calls the classifier, such as a module that normalizes first; None is
            the classifier itself.
        channel: Channel of the logits.

    Returns:
        Logits `B x classes`, and float32 `B x h x w` in 0..1.

    Raises:
        UserError: See `ClassActivationMaps.recording` and `ActivationRecorder.compute`.
    """
    with heat_maps.recording(net) as listener:
        logits = (forward or net)(images)
        return logits, listener.compute(channel)
