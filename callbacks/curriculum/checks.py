"""Check a curriculum before training against the data, the module and the other callbacks."""

from collections.abc import Sequence

from lightning import Trainer
from lightning.pytorch.callbacks import EarlyStopping, WeightAveraging

from callbacks.curriculum.stage import StageConfig
from datamodules.base import ManifestDataModule
from datamodules.image_size import ImageSize
from datamodules.refusal import UserError
from lightning_modules.supervised import SupervisedModule


def check_callbacks(trainer: Trainer) -> None:
    """Refuses callbacks that know nothing of stages.

    Raises:
        Refusal: names the callback.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, EarlyStopping):
            raise UserError(
                "early_stopping would cut a curriculum short; take it out of callbacks=[...], and"
                " give stages a patience instead"
            )
        if isinstance(callback, WeightAveraging):
            raise UserError(
                "averaged weights know nothing of stages; take ema and swa out of callbacks=[...],"
                " or train without a curriculum"
            )


def check_stages(
    stages: Sequence[StageConfig],
    module: SupervisedModule,
    data: ManifestDataModule,
    world_size: int,
) -> None:
    """Refuse stages that this data or this module cannot provide.

    Raises:
        Refusal: names the stage and the key.
    """
    frozen = [stage.freeze_encoder for stage in stages]
    if world_size > 1 and any(frozen) and not all(frozen):
        raise UserError(
            "freeze_encoder in some stages alone works on one device, because DDP fixes what it"
            " averages at the start; freeze all or none"
        )
    for number, stage in enumerate(stages):
        where = f"callbacks.curriculum.stages[{number}]"
        for epoch in (0, stage.epochs - 1):
            data.pool.check(stage.epoch_config(data.base_epoch_config, epoch), where)
        if stage.image_size is not None and not data.cache_size.covers(
            ImageSize.from_config(stage.image_size)
        ):
            kept = f"datamodule.cache_size={data.cache_size}"
            raise UserError(
                f"{where}.image_size={stage.image_size} is more than {kept} keeps; set"
                f" datamodule.cache_size={stage.image_size}"
            )
        if stage.loss_weights is not None:
            _check_loss_terms(stage, module, where)
        if stage.freeze_encoder and not hasattr(module.net, "encoder"):
            raise UserError(
                f"{where}.freeze_encoder=true, but the network has no encoder; take it out of the"
                " stage"
            )


def _check_loss_terms(stage: StageConfig, module: SupervisedModule, where: str) -> None:
    terms = sorted(getattr(module.loss, "weights", {}))
    if sorted(stage.loss_weights or ()) != terms:
        mend = (
            f"give a weight to each of {', '.join(terms)}"
            if terms
            else "take a sum of losses, such as module/loss=dice_focal_tversky"
        )
        raise UserError(
            f"{where}.loss_weights={dict(stage.loss_weights or {})} are not those of module.loss;"
            f" {mend}"
        )
