"""Settings of one curriculum stage (learning rate, image size, sampling), checked on construction.

`curriculum.py` applies them when the stage begins.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from datamodules.arguments import (
    AllowedValues,
    Fraction,
    FromMapping,
    NetworkInputSize,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    check_partial,
    config_dataclass,
)
from datamodules.errors import UserError
from datamodules.image_size import ImageSize
from datamodules.sampling.config import EpochConfig, StrataWeights


def _parse_range(change: Mapping[str, float]) -> Mapping[str, float]:
    if set(change) != {"from", "to"}:
        raise ValueError("a linear change needs from and to")
    return change


FromTo = Annotated[
    Mapping[str, Fraction], AfterValidator(_parse_range), AllowedValues("{from: 0.8, to: 0.22}")
]


@config_dataclass
class StageConfig:
    """Settings of one stage; None keeps the value of the experiment.

    Attributes:
        epochs: Number of epochs of the stage.
        lr: Initial learning rate of the stage's own optimizer, for all parameters but the
            encoder's.
        image_size: Size of the network's input in pixels: the side of a square, or [height, width].
        batch_size: Images per step and device.
        positive_fraction: Fraction of images with a lesion; `{from: .8, to: .22}` changes it
            linearly from the first epoch to the last.
        strata_weights: Relative sampling weight of the rows of each stratum.
        scheduler: Learning-rate schedule of the stage, as in conf/module/scheduler.
        loss_weights: Weights of the loss's terms.
        freeze_encoder: True to train all parameters but those of the encoder.
        patience: Number of epochs without improvement after which the next stage starts.
    """

    epochs: PositiveInt
    lr: PositiveFloat | None = None
    image_size: NetworkInputSize | None = None
    batch_size: PositiveInt | None = None
    positive_fraction: Fraction | FromTo | None = None
    strata_weights: StrataWeights | None = None
    scheduler: Callable[..., Any] | None = None
    loss_weights: Mapping[str, NonNegativeFloat] | None = None
    freeze_encoder: bool = False
    patience: PositiveInt | None = None

    def __post_init__(self) -> None:
        check_partial("scheduler", self.scheduler)

    def positive_fraction_at(self, epoch: int) -> float | None:
        """Return the fraction of positives in the stage's epoch number `epoch` (from 0)."""
        if not isinstance(self.positive_fraction, Mapping):
            return self.positive_fraction
        way = min(1.0, epoch / max(1, self.epochs - 1))
        return self.positive_fraction["from"] + way * (
            self.positive_fraction["to"] - self.positive_fraction["from"]
        )

    def epoch_config(self, base: EpochConfig, epoch: int) -> EpochConfig:
        """Return the configuration of the stage's epoch number `epoch` (from 0).

        Args:
            base: Configuration without a curriculum.
            epoch: Number of the epoch within the stage.
        """
        fraction = self.positive_fraction_at(epoch)
        return EpochConfig(
            base.image_size if self.image_size is None else ImageSize.from_config(self.image_size),
            self.batch_size or base.batch_size,
            base.batches,
            base.positive_fraction if fraction is None else fraction,
            base.strata_weights if self.strata_weights is None else self.strata_weights,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the given settings as plain values."""
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        made = getattr(self.scheduler, "func", None)
        settings["scheduler"] = (
            None
            if made is None
            else {"name": made.__name__} | dict(getattr(self.scheduler, "keywords", {}))
        )
        plain = {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in settings.items()
        }
        return {
            name: value for name, value in plain.items() if value is not None and value is not False
        }


Stages = Annotated[
    Sequence[Annotated[StageConfig, FromMapping()]],
    Field(min_length=1),
    AllowedValues("a list of stages, such as [{epochs: 10, lr: 1e-3}]"),
]


def check_total_epochs(stage_epochs: Sequence[int], epochs: int) -> None:
    """Refuse stages that do not add up to the fit.

    Args:
        stage_epochs: Epochs of each stage.
        epochs: Epochs of the whole fit.

    Raises:
        UserError: They do not add up; the message names the number of epochs to set.
    """
    total = sum(stage_epochs)
    if total != epochs:
        terms = " + ".join(map(str, stage_epochs))
        raise UserError(
            f"the curriculum's stages have {terms} = {total} epochs, but"
            f" trainer.max_epochs={epochs}; set trainer.max_epochs={total}"
        )
