"""Checks the keys of Lightning's Trainer and those at the root of the configuration.

They belong to no constructor of ours, which would check them.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from pydantic import Field

from datamodules.arguments import (
    AllowedValues,
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    check_value,
)

Limit = NonNegativeInt | Annotated[Fraction, AllowedValues("a share from 0 to 1")] | None
Length = Annotated[
    int, Field(ge=-1), AllowedValues("a whole number of 0 or more, or -1 for no limit")
]
Precision = (
    Literal[
        "auto",
        "32-true",
        "16-mixed",
        "bf16-mixed",
        "16-true",
        "bf16-true",
        "64-true",
        "transformer-engine",
        "transformer-engine-float16",
    ]
    | Literal["16", "bf16", "32", "64", 16, 32, 64]
)

MISSING = object()  # null is a value
TRAINER: dict[str, Any] = {
    "accelerator": str,
    "devices": PositiveInt | Literal["auto", -1] | str | Sequence[NonNegativeInt],
    "num_nodes": PositiveInt,
    "sync_batchnorm": bool | Literal["auto"],
    "precision": Precision,
    "max_epochs": Length | None,
    "min_epochs": NonNegativeInt | None,
    "max_steps": Length,
    "min_steps": NonNegativeInt | None,
    "accumulate_grad_batches": PositiveInt,
    "gradient_clip_val": NonNegativeFloat | None,
    "gradient_clip_algorithm": Literal["norm", "value"] | None,
    "limit_train_batches": Limit,
    "limit_val_batches": Limit,
    "limit_test_batches": Limit,
    "limit_predict_batches": Limit,
    "overfit_batches": NonNegativeInt | Annotated[Fraction, AllowedValues("a share from 0 to 1")],
    "check_val_every_n_epoch": PositiveInt | None,
    "fast_dev_run": bool | NonNegativeInt,
    "num_sanity_val_steps": Annotated[int, Field(ge=-1)] | None,
    "log_every_n_steps": NonNegativeInt | None,
    "deterministic": bool | Literal["warn"] | None,
    "benchmark": bool | None,
    "inference_mode": bool,
    "enable_progress_bar": bool,
    "enable_model_summary": bool,
    "use_distributed_sampler": bool,
}
ROOT: dict[str, Any] = {
    "seed": NonNegativeInt,
    "folds": NonNegativeInt,
    "fold": NonNegativeInt | None,
    "tta": Literal["none", "hflip"],
    "average_checkpoints": PositiveInt,
    "resume": Literal["auto"] | None,
    "changed_settings": Literal["refuse", "apply"],
    "monitor.name": str,
    "monitor.mode": Literal["max", "min"],
}


def check_keys(cfg: DictConfig) -> None:
    """Refuse values that would be taken for something else, before anything is made or written.

    Args:
        cfg: The configuration of a run.

    Raises:
        ArgumentError: A value is not allowed; the sentence names its key.
    """
    for place, annotations in ((cfg.trainer, TRAINER), (cfg, ROOT)):
        for name, annotation in annotations.items():
            if OmegaConf.select(place, name.split(".")[0], default=MISSING) is MISSING:
                continue
            value = OmegaConf.select(place, name)
            key = f"trainer.{name}" if place is cfg.trainer else name
            check_value(
                key,
                OmegaConf.to_container(value) if OmegaConf.is_config(value) else value,
                annotation,
            )
