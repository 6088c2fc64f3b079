"""Precision of an evaluation, which need not be that of the training.

A test, a prediction and the search of the rule before them run in fp32 by default, because bf16
flips some 3 of 1,000 pixels, and an exported network could not be compared with it.
"""

from lightning import Trainer
from lightning.pytorch.plugins.precision import FSDPPrecision, MixedPrecision, Precision
from lightning.pytorch.strategies import FSDPStrategy
from torch import nn

from lightning_modules.hardware import set_tensor_float_32

FULL_PRECISION = "32-true"


def set_evaluation_precision(trainer: Trainer, module: nn.Module, precision: str) -> None:
    """Let the next evaluations of a trainer run in a precision.

    Args:
        trainer: Trainer after its fit, or before its first step.
        module: Its module; weights of 16 bits become float32.
        precision: `32-true`, `16-mixed` or `bf16-mixed`.
    """
    set_tensor_float_32(precision != FULL_PRECISION)
    if str(trainer.precision) == precision:
        return
    plugin: Precision
    if isinstance(trainer.strategy, FSDPStrategy):
        plugin = FSDPPrecision(precision)  # type: ignore[arg-type]
    elif precision == FULL_PRECISION:
        plugin = Precision()
    else:
        device = trainer.strategy.root_device.type
        plugin = MixedPrecision(precision, device)  # type: ignore[arg-type]
    trainer.strategy.precision_plugin = plugin
    module.float()
