"""Frozen encoder in the first epochs of a fit."""

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from callbacks.curriculum import Curriculum
from datamodules.arguments import PositiveInt, validated
from datamodules.errors import UserError
from lightning_modules.base import SupervisedModule
from lightning_modules.networks.encoder import find_encoder

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
        _check(trainer, pl_module, self.epochs is None)
        pl_module.freeze_encoder(self.epochs is None)

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


def _check(trainer: Trainer, module: SupervisedModule, always: bool) -> None:
    """Refuse a network, a callback or a strategy that cannot be combined with a frozen encoder.

    Raises:
        UserError: It is refused; the message names the key.
    """
    if any(isinstance(callback, Curriculum) for callback in trainer.callbacks):  # type: ignore[attr-defined]
        raise UserError(
            f"{KEY} cannot be combined with a curriculum; set freeze_encoder: true in the stages of"
            " callbacks.curriculum.stages instead, and remove freeze_encoder from extra=[...]"
        )
    encoder = find_encoder(module.net)
    if encoder is None:
        raise UserError(
            f"{KEY} needs a network with a known encoder (its layer `encoder`, or all of a"
            f" classifier but its linear head), which {type(module.net).__name__} does not have;"
            " remove freeze_encoder from extra=[...]"
        )
    if not any(value.requires_grad for value in encoder.named_parameters(module.net).values()):
        raise UserError(
            f"{KEY} would change nothing, because the encoder of this network is frozen already;"
            " remove freeze_encoder from extra=[...]"
        )
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
