"""Base modules: one step for train, val and test, and evidence for evaluation."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from lightning import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MeanMetric

from datamodules.arguments import (
    AllowedValues,
    FromMapping,
    Names,
    NonNegativeFloat,
    PositiveFloat,
    check_partial,
    validated,
)
from datamodules.base import ServingDataModule
from datamodules.errors import UserError
from datamodules.image_size import ImageSize
from datamodules.loading.dataset import Sample
from evaluation.collector import EvidenceCollector, merge_ranks
from evaluation.evidence import Evidence
from evaluation.rule_modules import DecisionRule
from lightning_modules import distributed, training_record
from lightning_modules.losses import apply_loss
from lightning_modules.module_config import MonitorConfig, ScratchNormalization
from lightning_modules.networks.encoder import (
    check_rate_factors,
    eval_frozen_layers,
    find_encoder,
)
from lightning_modules.networks.input_size import check_input
from lightning_modules.normalize import resolve_normalization
from lightning_modules.optim import apply_hyperparameters, build_param_groups, check_optimizer

EncoderRate = Annotated[
    PositiveFloat,
    AllowedValues(
        "a number above 0, such as 0.1 (extra=freeze_encoder callbacks.freeze_encoder.epochs=null"
        " trains nothing in the encoder)"
    ),
]
StageName = Literal["train", "val", "test"]
LOSS_SUMS_KEY = "loss_sums"  # of a checkpoint within an epoch: per rank the sum of losses, weights


@validated
class SupervisedModule(LightningModule):
    """Base module of supervised learning; a subclass defines the target and the evidence to keep.

    Args:
        net: Network that maps float `B x C x H x W` to logits.
        loss: Loss that maps logits and target, and for masks with ignored pixels `ignored`, to one
            value per image, shape `B`.
        optimizer: Function that makes the optimizer of the parameters that require a gradient.
        scheduler: Function that makes Lightning's lr_scheduler dict of the optimizer, the trainer
            and the monitor; or None.
        monitor: `name` of the score that selects the best checkpoint, and its `mode`, `max` or
            `min`.
        mean: Mean per input channel, for pixels scaled to 0..1; None for 0; `auto` for the one that
            the pretrained weights of `net` expect.
        std: Standard deviation in the same form; None for 1.
        scratch_normalization: `mean` and `std` for `auto` if `net` has no pretrained weights, or
            weights that do not state theirs.
        gamma: Exponent of the pixels scaled to 0..1 before that, as in `Normalize`.
        channels_last: True to keep weights and images in that memory format, which is faster on
            recent CPUs and on tensor cores.
        compile: True to compile the net with torch.compile.
        encoder_lr_mult: Learning rate of the encoder, as a multiple of that of the other
            parameters; adapters (LoRA) have the rate of the other parameters. The encoder is
            `net.encoder`, or all of a classifier but its head.
        layer_decay: Learning rate of each layer of the encoder, as a multiple of that of the next
            one; the head or decoder is the last.
        auxiliary_weight: Weight, in
            training, of the loss of each further output of `net`, if it has several.
    """

    target: ClassVar[Literal["mask", "label"]]

    def __init__(
        self,
        net: nn.Module,
        loss: nn.Module,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[..., Any] | None = None,
        monitor: Annotated[MonitorConfig, FromMapping()] | None = None,
        mean: Sequence[float] | Literal["auto"] | None = None,
        std: Sequence[PositiveFloat] | Literal["auto"] | None = None,
        scratch_normalization: Annotated[ScratchNormalization, FromMapping()] | None = None,
        gamma: PositiveFloat = 1.0,
        channels_last: bool = True,
        compile: bool = False,
        encoder_lr_mult: EncoderRate = 1.0,
        layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0,
        auxiliary_weight: NonNegativeFloat = 0.4,
    ) -> None:
        super().__init__()
        check_partial("scheduler", scheduler)
        check_optimizer(optimizer)
        check_rate_factors(net, encoder_lr_mult, layer_decay)
        self.normalize = resolve_normalization(
            mean, std, gamma, getattr(net, "statistics", None), scratch_normalization
        )
        self.net = net
        self.loss = loss
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.monitor = monitor or MonitorConfig(name="val/loss", mode="min")
        self.encoder_lr_mult, self.layer_decay = encoder_lr_mult, layer_decay
        self.auxiliary_weight = auxiliary_weight
        self.settings: dict[str, Any] = {}  # settings that a resumed fit must not change unnoticed
        self.pretrained_weights: list[
            dict[str, Any]
        ] = []  # origin of the pretrained weights that this training began with
        self.training_description: dict[
            str, str
        ] = {}  # network, encoder and initial weights in words, for the page; set by the runner
        self.parent_records: list[
            dict[str, Any]
        ] = []  # records of the checkpoints that this training starts from
        self.resumed_settings: dict[str, Any] | None = (
            None  # set if a fit is resumed with other settings, which are then applied
        )
        self.mean_loss = MeanMetric(
            nan_strategy="disable"
        )  # exact for unequal numbers of images per rank, unlike Lightning's own mean
        self.mean_train_loss = MeanMetric(nan_strategy="disable")
        self._interrupted_mean: list[Tensor] | None = None  # of an epoch that is resumed, by rank
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self.memory_format)  # type: ignore[call-overload]
        self._trained_names: frozenset[str] | None = None  # set when the encoder is first frozen
        self.train()  # Lightning does not change the modes of a module
        if compile:
            self.net.compile()  # in place: the names in a checkpoint stay the same

    def train(self, mode: bool = True) -> "SupervisedModule":
        """Set the mode of all layers; in training, frozen layers stay in evaluation mode.

        These are the layers of `eval_frozen_layers`, for every network.
        """
        super().train(mode)
        if mode:
            eval_frozen_layers(self.net)
        return self

    def freeze_encoder(self, frozen: bool) -> None:
        """Freeze the encoder of the network, or train it again.

        Parameters that the network was built without training stay frozen. A frozen encoder is in
        evaluation mode: it keeps the statistics of its BatchNorm, and has no dropout.

        Args:
            frozen: True to freeze it.

        Raises:
            UserError: The network has no known encoder.
        """
        encoder = find_encoder(self.net)
        if encoder is None:
            raise UserError(
                f"{type(self.net).__name__} has no known encoder that could be frozen; name another"
                " network in module.net"
            )
        parameters = encoder.named_parameters(self.net)
        if self._trained_names is None:
            self._trained_names = frozenset(
                name for name, value in parameters.items() if value.requires_grad
            )
        for name in self._trained_names:
            parameters[name].requires_grad_(not frozen)
        self.train(self.training)

    def forward(self, image: Tensor) -> Any:
        """Convert uint8 `B x C x H x W` to logits; in training a tuple with auxiliary logits."""
        return self.net(self.normalize(image).contiguous(memory_format=self.memory_format))

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Return the loss of a batch."""
        return self._shared_step(batch, "train")

    def validation_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Return the loss of a batch of validation images, and keep evidence."""
        return self._shared_step(batch, "val")

    def test_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Return the loss of a batch of test images, and keep evidence."""
        return self._shared_step(batch, "test")

    def _shared_step(self, batch: Sample, stage: StageName) -> Tensor:
        output = self(batch["image"])
        logits, *auxiliary = output if isinstance(output, tuple) else (output,)
        target = batch[self.target]  # type: ignore[literal-required]
        if logits.shape != target.shape:
            raise UserError(
                f"the network ({type(self.net).__name__}) gives an output of shape"
                f" {tuple(logits.shape)}, and the {self.target}s of these images have shape"
                f" {tuple(target.shape)} (images, classes{', height, width' * (target.ndim == 4)});"
                " correct module.net"
            )
        ignored = batch.get("ignored") if self.target == "mask" else None
        each = apply_loss(self.loss, logits, target, ignored)
        for further in auxiliary:
            each = each + self.auxiliary_weight * apply_loss(self.loss, further, target, ignored)
        loss = (each * batch["weight"]).mean() if "weight" in batch else each.mean()
        if stage == "train":
            self.mean_train_loss.update(loss.detach().expand(len(each)))
            self.log(
                "train/loss",
                self.mean_train_loss,
                on_step=False,
                on_epoch=True,
                batch_size=len(each),
            )
            return loss
        self.mean_loss.update(each.detach())
        self.log(
            f"{stage}/loss", self.mean_loss, on_step=False, on_epoch=True, batch_size=len(each)
        )
        self.update_predictions(logits, batch, stage)
        return loss

    def update_predictions(self, logits: Tensor, batch: Sample, stage: StageName) -> None:
        """Add an evaluated batch to the evidence; the base class keeps none."""

    def configure_optimizers(self) -> Any:
        """Make optimizer and schedule of the parameters that require a gradient."""
        optimizer = self.optimizer(
            build_param_groups(
                self.net, self.named_parameters(), self.encoder_lr_mult, self.layer_decay
            )
        )
        for group in optimizer.param_groups:
            group["lr"] *= group.pop("lr_factor")
        if self.scheduler is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": self.scheduler(optimizer, trainer=self.trainer, monitor=self.monitor),
        }

    def setup(self, stage: str) -> None:
        """Seed every rank differently, for its own dropout; weights are those of the first rank.

        Raises:
            UserError: A batch of one image is too small for the network.
        """
        if stage != "fit":
            return
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, ServingDataModule):
            first = data.epoch_config(0)
            if first.batch_size == 1:
                self.check_input(first.image_size, 1)
        distributed.decorrelate_ranks(self.global_rank)

    def check_input(self, image_size: ImageSize, batch_size: int) -> None:
        """Refuse an image size or batch size that the network cannot process in its current mode.

        Args:
            image_size: Size of the images.
            batch_size: Images per device.

        Raises:
            UserError: The size is refused; the message names sizes that work.
        """
        trainer = self._trainer  # None outside of a run
        synchronized = getattr(getattr(trainer, "strategy", None), "_layer_sync", None) is not None
        together = batch_size * (trainer.world_size if trainer and synchronized else 1)
        channels = getattr(getattr(trainer, "datamodule", None), "channels", 1)
        check_input(self.net, channels, image_size, together)

    def on_train_start(self) -> None:
        """Restore the sums of an unfinished epoch; apply an optimizer that a resumed fit changed.

        Lightning does not call `on_train_epoch_start` for an epoch that is resumed.
        """
        self._restore_loss_sums()
        if self.resumed_settings is not None:
            then, now = (
                float(of.get("module.optimizer.lr") or 0)
                for of in (self.resumed_settings, self.settings)
            )
            before = then / now if then and now else 1.0
            apply_hyperparameters(
                self.configure_optimizers(),
                self.optimizers(use_pl_optimizer=False),
                self.lr_schedulers(),
                before,
            )

    def _restore_loss_sums(self) -> None:
        """Go on with the mean loss of an epoch that was interrupted."""
        if self._interrupted_mean is not None and self.global_rank < len(self._interrupted_mean):
            mean = self.mean_train_loss
            mean.mean_value, mean.weight = self._interrupted_mean[self.global_rank].to(self.device)
            mean._update_count = 1  # otherwise it warns that nothing was added
        self._interrupted_mean = None

    def _loss_sums(self) -> Tensor:
        """Return the sum of the weighted losses of this epoch, and of the weights."""
        mean = self.mean_train_loss
        return torch.stack([mean.mean_value.float(), mean.weight.float()])

    def on_validation_epoch_start(self) -> None:
        """Synchronize BatchNorm, so that all ranks evaluate the network of a checkpoint."""
        distributed.broadcast_batchnorm(self.net)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the random states of all ranks, the settings, and hashes of the training images.

        With the random states, a resumed run has the same dropout. Of an unfinished epoch the sums
        of its losses are added too, so that `train/loss` is the mean of the whole epoch.
        """
        checkpoint["random_states"] = distributed.gather_rng_states(self.device)
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.is_last_batch:
            checkpoint[LOSS_SUMS_KEY] = distributed.all_gather(self._loss_sums().cpu())
        checkpoint["settings"] = self.settings
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, ServingDataModule) and hasattr(self, "classes"):
            checkpoint[training_record.RECORD_KEY] = training_record.make_record(
                self, data, self.parent_records
            )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore this rank's random state and its sums of an unfinished epoch."""
        self._interrupted_mean = checkpoint.get(LOSS_SUMS_KEY)
        distributed.restore_rng_state(
            checkpoint.get("random_states", []), self.global_rank, self.device
        )


@validated
class EvaluatedModule(SupervisedModule):
    """Supervised module with classes, a decision rule and, after an evaluation, `evidence[stage]`.

    Args:
        classes: Names of the classes, in channel order.
        rule: Decision rule for these classes.
        collector: Collector of the arrays of this kind of evidence.
        **supervised: As `SupervisedModule`.
    """

    def __init__(
        self, classes: Names, rule: DecisionRule, collector: EvidenceCollector, **supervised: Any
    ) -> None:
        super().__init__(**supervised)
        self.classes = tuple(classes)
        self.rule = rule
        self.evidence: dict[str, Evidence] = {}
        self._collector = collector

    @abstractmethod
    def make_evidence(self, **parts: Any) -> Evidence:
        """Make this module's kind of evidence from the common fields and the collector's arrays."""

    @abstractmethod
    def monitored_metrics(self, evidence: Evidence) -> dict[str, float]:
        """Return the scores to log after an evaluation, by name."""

    def setup(self, stage: str) -> None:
        """Refuse a data set with other classes."""
        super().setup(stage)
        of_data = self.trainer.datamodule.table.classes  # type: ignore[attr-defined]
        if of_data != self.classes:
            raise UserError(
                f"module.classes={list(self.classes)}, but the data has {list(of_data)}; set"
                " module.classes and the net's classes"
            )

    def collect_evidence(self, stage: StageName) -> Evidence:
        """Return the evidence of an evaluation from all ranks, at the rule in force.

        The first call of an epoch collects it; all ranks must make this call together.
        """
        if stage not in self.evidence:
            arrays = self._collector.collect()
            own = self.make_evidence(
                rule=self.rule.values.numpy()[None].repeat(len(arrays["ids"]), axis=0),
                classes=self.classes,
                group_is=self.trainer.datamodule.table.group_is,  # type: ignore[attr-defined]
                **arrays,
            )
            self.evidence[stage] = merge_ranks(distributed.all_gather(own))
        return self.evidence[stage]

    def set_rule(self, values: Tensor) -> None:
        """Set a new decision rule, also for the evidence of this validation.

        Args:
            values: Numbers of the rule, `classes x 3`.
        """
        self.rule.values = values
        self.evidence["val"] = self.collect_evidence("val").with_rule(values)

    def on_validation_epoch_start(self) -> None:
        """Clear the evidence of the previous validation."""
        super().on_validation_epoch_start()
        self.evidence.pop("val", None)

    def on_validation_epoch_end(self) -> None:
        """Log the scores that callbacks monitor."""
        self._log_metrics("val")

    def on_test_epoch_start(self) -> None:
        """Clear the evidence of the previous test."""
        self.evidence.pop("test", None)

    def on_test_epoch_end(self) -> None:
        """Collect the evidence and log the test scores."""
        self._log_metrics("test")

    def _log_metrics(self, stage: StageName) -> None:
        for name, value in self.monitored_metrics(self.collect_evidence(stage)).items():
            self.log(
                f"{stage}/{name}",
                value,
                prog_bar=f"{stage}/{name}" == self.monitor.name,
                rank_zero_only=False,
            )

    def predict_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Return the logits on the network's canvas; callbacks write files from them."""
        return self(batch["image"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the rule in force; weight averaging would otherwise save that of its first copy."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["state_dict"]["rule._extra_state"] = self.rule.get_extra_state()
        checkpoint[training_record.RULE_PRECISION_KEY] = str(self.trainer.precision)
