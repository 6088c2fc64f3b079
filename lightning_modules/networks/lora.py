"""LoRA adapters and frozen backbones."""

import copy
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Conv2d, Linear
from peft.tuners.tuners_utils import BaseTunerLayer
from pydantic import Field
from torch import Tensor, nn
from torchvision.models.swin_transformer import ShiftedWindowAttention

from datamodules.arguments import ArgumentError, FiniteFloat, PositiveFloat, validated
from datamodules.errors import UserError
from lightning_modules.networks.classification import find_head
from lightning_modules.normalize import PixelStatistics


@validated
def inject_adapters(
    net: nn.Module,
    head: str,
    rank: int,
    alpha: PositiveFloat,
    dropout: Annotated[FiniteFloat, Field(ge=0, lt=1)] = 0.0,
    targets: Sequence[str] | None = None,
) -> None:
    """Put adapters into a network, in place; everything else in it is frozen.

    Args:
        net: A network of timm or torchvision.
        head: Name of its head, which is left alone.
        rank: Of the two factors of an adapter.
        alpha: An adapter counts alpha / rank times.
        dropout: Of its input, in training; of convolutions whole channels are dropped (Tompson et
            al. 2015).
        targets: Names, or ends of names, of the layers to adapt; None for `layers_to_adapt`.

    Raises:
        UserError: rank below 1, or no layer matches.
    """
    if rank < 1:
        raise UserError(
            f"module.net.lora.rank={rank} leaves nothing to train; take 4 to 32, or"
            " module.net.lora=null for a linear probe"
        )
    names = list(layers_to_adapt(net, head)) if targets is None else list(targets)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]
        lora_dropout=dropout,
        bias="none",
        target_modules=names,
    )
    try:
        if not names:
            raise ValueError("none")
        inject_adapter_in_model(config, net)
    except ValueError as error:
        kinds = Counter(
            type(layer).__name__ for layer in net.modules() if not list(layer.children())
        )
        there = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common(8))
        asked = (
            "an ungrouped Conv2d or an attention"
            if targets is None
            else f"named {', '.join(targets)}"
        )
        said = f"no layer of {type(net).__name__} is {asked} (it has {there})"
        raise UserError(f"module.net.lora: {said}; name some in module.net.lora.targets") from error
    _patch_adapted_layers(net)


def layers_to_adapt(net: nn.Module, head: str) -> Iterator[str]:
    """Yield every Conv2d with groups == 1 and the layers of every attention; not the head.

    Of an attention these are its Linear layers or its MultiheadAttention. peft can adapt a grouped
    convolution only where the rank is divisible by the groups, and cannot merge it.
    """
    inside = tuple(
        f"{name}." for name, layer in net.named_modules() if "Attention" in type(layer).__name__
    )
    whole = tuple(
        f"{name}."
        for name, layer in net.named_modules()
        if isinstance(layer, nn.MultiheadAttention)
    )
    for name, layer in net.named_modules():
        if name == head or name.startswith(f"{head}.") or name.startswith(whole):
            continue
        linear = isinstance(layer, nn.Linear) and name.startswith(inside)
        if (
            linear
            or isinstance(layer, nn.MultiheadAttention)
            or (isinstance(layer, nn.Conv2d) and layer.groups == 1)
        ):
            yield name


def merge_adapters(net: nn.Module) -> nn.Module:
    """Return a plain copy with the adapters merged into the weights; same logits, no LoRA."""
    plain = copy.deepcopy(net).eval()
    done: list[str] = []
    for name, layer in [
        (name, layer) for name, layer in plain.named_modules() if isinstance(layer, BaseTunerLayer)
    ]:
        if name.startswith(tuple(done)):
            continue  # the projection inside an adapted MultiheadAttention goes with it
        done.append(f"{name}.")
        parent, _, child = name.rpartition(".")
        setattr(plain.get_submodule(parent), child, _merge_layer(layer))
    return plain.requires_grad_(True)


def _merge_layer(layer: BaseTunerLayer) -> nn.Module:
    if hasattr(layer, "unload_and_optionally_merge_module"):
        return layer.unload_and_optionally_merge_module(
            merge=True, safe_merge=False, adapter_names=None
        )
    layer.merge()
    return layer.get_base_layer()


class _MergedWeightLinear(Linear):
    """Adapted Linear whose weight an attention uses without calling it (torchvision's Swin)."""

    @property
    def weight(self) -> Tensor:
        """The adapted weight; dropout, which acts on an input, has no place here."""
        weight: Any = self.base_layer.weight
        return (
            weight
            if self.merged or self.disable_adapters
            else weight + self.get_delta_weight("default")
        )


def _patch_adapted_layers(net: nn.Module) -> None:
    for owner in net.modules():
        for layer in owner.children() if isinstance(owner, ShiftedWindowAttention) else ():
            if isinstance(layer, Linear):
                layer.__class__ = _MergedWeightLinear
    for layer in net.modules():
        if isinstance(layer, BaseTunerLayer):
            # else every input goes to fp32 and back under autocast
            layer.cast_input_dtype_enabled = False  # type: ignore[assignment]
        if isinstance(layer, Conv2d):
            for name, dropout in layer.lora_dropout.items():
                if isinstance(dropout, nn.Dropout):
                    # whole channels: neighbouring pixels are nearly copies, a mask of each is slow
                    layer.lora_dropout[name] = nn.Dropout2d(dropout.p)


@validated
class FrozenBackboneClassifier(nn.Module):
    """Wraps a classifier of timm or torchvision: its body frozen, adapters in it, its head trained.

    BatchNorm of the frozen body keeps its statistics, in training too; a body without adapters is
    left in evaluation mode.

    Args:
        net: The classifier.
        lora: `rank`, `alpha`, `dropout`, and `targets`: names (or ends of names) of the layers to
            adapt, None for every Conv2d that is not grouped and every layer of an attention. None
            trains the head alone.
        checkpoint: `whole`, or `adapter`: the frozen weights are left out of checkpoints, and a
            checkpoint is only taken back by a network with the same frozen weights.

    Raises:
        UserError: rank below 1, no layer matches, or a grouped layer is asked for.
    """

    def __init__(
        self,
        net: nn.Module,
        lora: Mapping[str, Any] | None,
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
            try:
                inject_adapters(net, head, **lora)
            except ArgumentError as error:
                raise error.nested_in("lora") from error
        module.requires_grad_(True)
        self._register_state_dict_hook(_drop_frozen_keys)
        self.register_load_state_dict_pre_hook(_restore_frozen_keys)
        self.train()  # Lightning takes a module's modes as it finds them

    @property
    def statistics(self) -> PixelStatistics | None:
        """Mean and std that the wrapped network's pretrained weights expect; None if unknown."""
        return getattr(self.net, "statistics", None)

    def forward(self, image: Tensor) -> Tensor:
        """Images to logits."""
        return self.net(image)

    def train(self, mode: bool = True) -> "FrozenBackboneClassifier":
        """Set training mode for what is trained; frozen BatchNorm stays as it is."""
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
        """Return the frozen parameters by their names below `net`; buffers are not among them."""
        return {
            name: value for name, value in self.net.named_parameters() if not value.requires_grad
        }

    def fingerprint(self) -> str:
        """Hash the frozen weights; computed once, because training never changes them."""
        if self._fingerprint is None:
            digest = hashlib.sha256()
            for name, value in sorted(self.frozen_parameters().items()):
                digest.update(
                    name.encode() + value.detach().float().cpu().contiguous().numpy().tobytes()
                )
            self._fingerprint = digest.hexdigest()[:16]
        return self._fingerprint

    def get_extra_state(self) -> dict[str, str]:
        """Return the hash of the frozen weights and whether a checkpoint holds them."""
        return {"frozen": self.fingerprint(), "checkpoint": self.checkpoint}

    def set_extra_state(self, state: dict[str, str]) -> None:
        """Refuse a checkpoint of adapters alone that were trained on other frozen weights."""
        if state["checkpoint"] == "whole":
            self._fingerprint = None  # other frozen weights come with it
        elif state["frozen"] != self.fingerprint():
            raise UserError(
                "the checkpoint holds an adapter alone, and its frozen weights were others than"
                " those here; give it the backbone it was trained on, by the same init_from or"
                " module.net.net.weights and the same seed (they stand in its run's config.yaml)"
            )

    def load_backbone(self, state: Mapping[str, Tensor]) -> None:
        """Load the body of a plain classifier's state_dict; its head is left out.

        Raises:
            UserError: it is of another network, or adapted itself.
        """
        head = find_head(self.net)[0]
        own = {
            _name_without_adapter(name): value
            for name, value in self.net.state_dict().items()
            if "lora_" not in name and not name.startswith(f"{head}.")
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
        """Return a plain copy with the adapters merged into the weights; same logits, no LoRA."""
        return merge_adapters(self.net)


def _name_without_adapter(name: str) -> str:
    return name.replace(".base_layer.", ".")


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
