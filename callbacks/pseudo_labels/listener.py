"""Hooks that keep what a classifier's layers gave in its last forward, and the graph behind them, for one backward a batch."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from callbacks.feature_maps.layers import to_chw
from callbacks.pseudo_labels.activation_maps import CAMMethod
from datamodules.refusal import UserError

FP16_GRADIENT_SCALE = (
    2.0**10
)  # gradients pass a float16 network enlarged, lest small ones become zero


class ActivationRecorder:
    """Makes the heat maps of the last forward; comes from `HeatMaps.listening`.

    Args:
        cam_method: The mathematics.
        layer_names: Of the layers.
    """

    def __init__(self, cam_method: CAMMethod, layer_names: Sequence[str]) -> None:
        self._cam_method, self._layer_names = cam_method, layer_names
        self._activations: dict[str, Tensor] = {}
        self._logits: Tensor | None = None
        self._grad_was_enabled: bool | None = (
            None  # whether gradients were, before the forward that runs now
        )

    def compute(self, channel: int = 0, image_indices: Sequence[int] | None = None) -> np.ndarray:
        """Heat maps of the last forward, once: one backward for the whole batch, from the logits to the first layer.

        Args:
            channel: Of the logits.
            image_indices: Images of the batch that are mapped, None for all.

        Returns:
            float32 `B x h x w` in 0..1 at the finest layer's resolution, as `HeatMaps` says; B is
            the number of rows.

        Raises:
            Refusal: the forward does not pass a layer, a layer gives no map, the logits do not
                depend on the layers, or have no such channel.
            RuntimeError: there was no forward since the last call.
        """
        if self._logits is None:
            raise RuntimeError(
                "heat() belongs to one forward of the network, and there was none since the last"
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
                f"{self._cam_method.key}.layers names {layer_name}, which the network does not pass on its way"
                " to the logits; name another layer"
            )
        return self._activations[layer_name]

    def _compute_gradients(
        self, logits: Tensor, channel: int, activations: Sequence[Tensor]
    ) -> list[Tensor]:
        logits = logits.flatten(1) if logits.ndim > 1 else logits[:, None]
        if not 0 <= channel < logits.shape[1]:
            raise UserError(
                f"{self._cam_method.key}: channel {channel} is none of the network's {logits.shape[1]}"
                " logits; count them from 0"
            )
        if not logits.requires_grad:
            names = ", ".join(self._layer_names)
            raise UserError(
                f"{self._cam_method.key}.layers: the logits do not depend on {names} in a way that"
                " gradients follow; name another layer"
            )
        scale = FP16_GRADIENT_SCALE if logits.dtype == torch.float16 else 1.0
        with torch.enable_grad():  # images do not touch one another in evaluation mode, so the sum's gradient is that of each image
            score = logits[:, channel].float().sum() * scale
        return [
            each / scale
            for each in torch.autograd.grad(score, list(activations), materialize_grads=True)
        ]

    def _to_bchw(self, tensor: Tensor, image_indices: Sequence[int]) -> np.ndarray:
        """float32 `B x C x h x w` of some images, whatever the layout."""
        tensor = tensor.detach()
        grids = [to_chw(tensor[row], self._aspect_ratio) for row in image_indices or [0]]
        if grids[0] is None or grids[0][0].numel() < 2:
            raise UserError(
                f"{self._cam_method.key}.layers names {' or '.join(self._layer_names)}, which gives no map;"
                " name a stage of the network"
            )
        return torch.stack(grids)[: len(image_indices)].numpy()  # type: ignore[arg-type]

    def make_layer_hook(self, layer_name: str) -> Callable[..., Tensor | None]:
        """Makes a layer's output the start of the graph, or a part of it behind an earlier layer, and hands on a copy."""

        def hook(module: nn.Module, given: Any, output: Any) -> Tensor | None:
            if layer_name in self._activations:
                return None
            if not isinstance(output, Tensor) or output.ndim not in (3, 4):
                raise UserError(
                    f"{self._cam_method.key}.layers names {layer_name}, which gives no map; name a stage of the"
                    " network"
                )
            kept = (
                output
                if output.requires_grad
                else output.detach().float().requires_grad_(self._cam_method.needs_gradients)
            )
            self._activations[layer_name] = kept
            return kept.to(output.dtype, copy=True)  # what follows may work in place

        return hook

    def network_pre_hook(
        self, net: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """A forward begins: gradients are recorded, which costs nothing up to the first layer."""
        self._grad_was_enabled, self._logits = torch.is_grad_enabled(), None
        self._activations.clear()
        if self._cam_method.needs_gradients and torch.is_inference_mode_enabled():
            wrong = (
                f"{self._cam_method.key}.method={self._cam_method.method} needs gradients, which inference mode"
                " forbids"
            )
            raise UserError(f"{wrong}; set trainer.inference_mode=false")
        height, width = next(
            each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)
        ).shape[-2:]
        self._aspect_ratio = height / width
        torch.set_grad_enabled(self._cam_method.needs_gradients)

    def network_hook(self, net: nn.Module, args: Any, output: Any) -> Any:
        """The forward is over, or failed: its logits are kept with their graph; everyone else has them without, as ever."""
        self.restore_grad_mode()
        if isinstance(output, Tensor):
            self._logits = output
            return output.detach()
        return None

    def restore_grad_mode(self) -> None:
        """Recording of gradients is as it was before the forward."""
        if self._grad_was_enabled is not None:
            torch.set_grad_enabled(self._grad_was_enabled)
            self._grad_was_enabled = None
