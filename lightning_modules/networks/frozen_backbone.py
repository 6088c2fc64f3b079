"""Classifier with a frozen backbone, with or without LoRA adapters."""

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from datamodules.arguments import FromMapping, validated
from datamodules.errors import UserError
from lightning_modules.networks.classification import build_classifier, find_head
from lightning_modules.networks.lora_config import AdapterConfig, is_adapter, plain_name
from lightning_modules.normalize import PixelStatistics
from lightning_modules.pretrained.resolver import ResolvedWeights


@validated
class FrozenBackboneClassifier(nn.Module):
    """Classifier of timm or torchvision with a frozen backbone, LoRA adapters and a trained head.

    BatchNorm of the frozen backbone keeps its statistics, in training too; a backbone without
    adapters stays in evaluation mode.

    Args:
        net: The classifier.
        lora: Adapters, or their settings as a mapping; None trains only the head.
        checkpoint: `whole`, or `adapter` to leave the frozen weights out of checkpoints; such a
            checkpoint can be loaded only by a network with the same frozen weights.

    Raises:
        UserError: No layer matches, or a grouped layer is named.
    """

    def __init__(
        self,
        net: nn.Module,
        lora: Annotated[AdapterConfig, FromMapping()] | None,
        checkpoint: Literal["whole", "adapter"] = "whole",
    ) -> None:
        super().__init__()
        self.net = net
        self.checkpoint = checkpoint
        self.has_adapters = lora is not None
        self._fingerprint: str | None = None
        head, module = find_head(net)
        net.requires_grad_(False)
        if lora is not None:
            from lightning_modules.networks.lora import inject_adapters  # peft takes a second

            inject_adapters(net, head, lora)
        module.requires_grad_(True)
        self._register_state_dict_hook(_drop_frozen_keys)
        self.register_load_state_dict_pre_hook(_restore_frozen_keys)
        self.train()  # Lightning does not change the modes of a module

    @property
    def pretrained(self) -> ResolvedWeights | None:
        """Pretrained weights of the wrapped network; None from scratch."""
        return getattr(self.net, "pretrained", None)

    @property
    def statistics(self) -> PixelStatistics | None:
        """Mean and std that the wrapped network's pretrained weights expect; None if unknown."""
        return getattr(self.net, "statistics", None)

    def forward(self, image: Tensor) -> Tensor:
        """Convert images to logits."""
        return self.net(image)

    def train(self, mode: bool = True) -> "FrozenBackboneClassifier":
        """Set the mode of the trained layers; frozen BatchNorm does not change."""
        super().train(mode)
        if not self.has_adapters:
            self.net.eval()
            find_head(self.net)[1].train(mode)
        for layer in self.net.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm) and not any(
                p.requires_grad for p in layer.parameters()
            ):
                layer.eval()
        return self

    def frozen_parameters(self) -> dict[str, Tensor]:
        """Return the frozen parameters by their names below `net`, without buffers."""
        return {
            name: value for name, value in self.net.named_parameters() if not value.requires_grad
        }

    def fingerprint(self) -> str:
        """Return a hash of the frozen weights, computed once, because they never change."""
        if self._fingerprint is None:
            digest = hashlib.sha256()
            for name, value in sorted(self.frozen_parameters().items()):
                digest.update(
                    name.encode() + value.detach().float().cpu().contiguous().numpy().tobytes()
                )
            self._fingerprint = digest.hexdigest()[:16]
        return self._fingerprint

    def get_extra_state(self) -> dict[str, str]:
        """Return the hash of the frozen weights, and if a checkpoint holds them."""
        return {"frozen": self.fingerprint(), "checkpoint": self.checkpoint}

    def set_extra_state(self, state: dict[str, str]) -> None:
        """Refuse a checkpoint of only adapters that were trained on other frozen weights."""
        if state["checkpoint"] == "whole":
            self._fingerprint = None  # the checkpoint holds other frozen weights
        elif state["frozen"] != self.fingerprint():
            raise UserError(
                "the checkpoint holds only an adapter, and its frozen weights differ from those of"
                " this run; use the same init_from or module.net.encoder.weights and the same seed"
                " as its run (see config.yaml there)"
            )

    def load_backbone(self, state: Mapping[str, Tensor]) -> None:
        """Load the backbone of a plain classifier's state_dict, without its head.

        Raises:
            UserError: It belongs to another network, or has adapters itself.
        """
        head = find_head(self.net)[0]
        own = {
            plain_name(name): value
            for name, value in self.net.state_dict().items()
            if not is_adapter(name) and not name.startswith(f"{head}.")
        }
        wrong = [
            name
            for name, value in own.items()
            if name not in state or state[name].shape != value.shape
        ]
        if wrong:
            raise UserError(
                f"it lacks {len(wrong)} of the {len(own)} weights of the frozen network, the first"
                f" is {wrong[0]}"
            )
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(state[name])
        self._fingerprint = None

    def merge_adapters(self) -> nn.Module:
        """Return a copy without LoRA whose adapters are merged into the weights; same logits."""
        from lightning_modules.networks.lora import merge_adapters

        return merge_adapters(self.net)


def _drop_frozen_keys(
    module: FrozenBackboneClassifier, state: dict[str, Any], prefix: str, local_metadata: Any
) -> None:
    if module.checkpoint == "adapter":
        for name in module.frozen_parameters():
            state.pop(f"{prefix}net.{name}", None)


def _restore_frozen_keys(
    module: FrozenBackboneClassifier, state: dict[str, Any], prefix: str, *rest: Any
) -> None:
    stored = state.get(f"{prefix}_extra_state", {})
    if stored.get("checkpoint") == "adapter":
        for name, value in module.frozen_parameters().items():
            state.setdefault(f"{prefix}net.{name}", value.detach().clone())


@validated
def build_frozen_classifier(
    lora: Annotated[AdapterConfig, FromMapping()] | None,
    checkpoint: Literal["whole", "adapter"] = "whole",
    **classifier: Any,
) -> FrozenBackboneClassifier:
    """Build a classifier of timm or torchvision with a frozen backbone, by name.

    Args:
        lora: As in `FrozenBackboneClassifier`.
        checkpoint: As in `FrozenBackboneClassifier`.
        **classifier: Arguments of `build_classifier`.
    """
    return FrozenBackboneClassifier(build_classifier(**classifier), lora, checkpoint)
