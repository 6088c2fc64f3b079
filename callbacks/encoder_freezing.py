"""Frozen encoder in the first epochs of a fit."""

from collections.abc import Iterable

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from callbacks.curriculum import Curriculum
from datamodules.arguments import PositiveInt, validated
from datamodules.errors import UserError
from lightning_modules.base import SupervisedModule
from lightning_modules.networks.encoder import check_freezable, refuse_rates

KEY = "callbacks.freeze_encoder"


@validated
class EncoderFreezing(Callback):
    """Freeze the encoder for the first epochs; then the whole network is trained.

    While it is frozen, the encoder has no gradient and no weight decay, keeps the statistics of its
    BatchNorm, and has no dropout. Afterwards its learning rate is `module.encoder_lr_mult` times
    that of the other parameters, at the point that the schedule has reached.

    All parameters are in the optimizer from the start, which does not change those without a
    gradient, and the epoch alone decides, so that a resumed fit is exact. (Lightning's
    BackboneFinetuning adds the encoder to the optimizer when it unfreezes it. Under DDP, which
    chooses the parameters to synchronize at the start, each device would then train its own.)

    Example:
        callbacks: {freeze_encoder: {epochs: 3}}

    Args:
        epochs: Number of epochs, fewer than `max_epochs`; None for the whole fit.
        max_epochs: Number of epochs of the fit; -1 or None for no limit.
    """

    def __init__(self, epochs: PositiveInt | None = 3, max_epochs: int | None = None) -> None:
        if epochs is not None and max_epochs is not None and 0 <= max_epochs <= epochs:
            raise UserError(
                f"{KEY}.epochs={epochs} is the whole fit (trainer.max_epochs={max_epochs}), so that"
                f" the encoder would never be trained; set {KEY}.epochs=null to freeze it for the"
                " whole fit, or fewer epochs"
            )
        self.epochs = epochs

    def is_frozen(self, epoch: int) -> bool:
        """Return True if the encoder is frozen in an epoch (from 0)."""
        return self.epochs is None or epoch < self.epochs

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot be combined; freeze an encoder that is never trained.

        The optimizer and DDP, which are made later, then leave it out. One that is trained later
        must not be frozen yet.
        """
        if stage != "fit" or not isinstance(pl_module, SupervisedModule):
            return
        self.check_module(pl_module, trainer.callbacks)  # type: ignore[attr-defined]
        _check_strategy(trainer, self.epochs is None)
        pl_module.freeze_encoder(self.epochs is None)

    def check_module(self, module: SupervisedModule, callbacks: Iterable[object]) -> None:
        """Refuse a curriculum, an encoder that cannot be frozen, and rates that it would not have.

        Args:
            module: Module to train.
            callbacks: Callbacks of the trainer.

        Raises:
            UserError: It is refused; the message names the key.
        """
        if any(isinstance(callback, Curriculum) for callback in callbacks):
            raise UserError(
                f"{KEY} cannot be combined with a curriculum; set freeze_encoder: true in the"
                " stages of callbacks.curriculum.stages instead, and remove freeze_encoder from"
                " extra=[...]"
            )
        check_freezable(module.net, KEY, "remove freeze_encoder from extra=[...]")
        if self.epochs is None:
            reason = f"{KEY}.epochs=null freezes the encoder for the whole fit"
            refuse_rates(module.encoder_lr_mult, module.layer_decay, reason)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Freeze or unfreeze the encoder for an epoch that is resumed in its middle."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Freeze or unfreeze the encoder for this epoch."""
        if isinstance(pl_module, SupervisedModule):
            pl_module.freeze_encoder(self.is_frozen(trainer.current_epoch))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Unfreeze the encoder, so that the network is as it was built."""
        if stage == "fit" and isinstance(pl_module, SupervisedModule):
            pl_module.freeze_encoder(False)


def freezes_encoder(callbacks: Iterable[object]) -> bool:
    """Return True if the encoder is frozen for the whole fit, by this callback or all stages.

    Args:
        callbacks: Callbacks of the trainer.
    """
    return any(
        (isinstance(each, EncoderFreezing) and each.epochs is None)
        or (isinstance(each, Curriculum) and all(stage.freeze_encoder for stage in each.stages))
        for each in callbacks
    )


def _check_strategy(trainer: Trainer, always: bool) -> None:
    """Refuse a strategy that cannot be combined with an encoder that is frozen for some epochs.

    Raises:
        UserError: It is refused; the message names the key.
    """
    strategy = trainer.strategy
    if always or isinstance(strategy, SingleDeviceStrategy):
        return
    if not (
        isinstance(strategy, DDPStrategy) and strategy._ddp_kwargs.get("find_unused_parameters")
    ):
        raise UserError(
            f"{KEY} needs DDP with find_unused_parameters=True on several devices, because the"
            " encoder has no gradient in the first epochs; set trainer.strategy=auto"
        )
