"""One stage of a curriculum: what it asks for, checked when it is made."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from datamodules.checks import check_image_size
from datamodules.plan import Plan, refuse_rates
from datamodules.refusal import Refusal
from datamodules.sample import Canvas, Size


@dataclass(frozen=True)
class Stage:
    """What holds for some epochs; what is None stays as the experiment has it.

    Attributes:
        epochs: How many.
        lr: Learning rate at which the stage's own optimizer starts, of all but the encoder.
        image_size: The network's input in pixels: the side of a square, or [height, width].
        batch_size: Images a step and device.
        positive_fraction: Share of images with a lesion; `{from: .8, to: .22}` changes it linearly from the first epoch to the last.
        strata_weights: How often a row of a stratum is wanted.
        scheduler: A schedule of its own, as in conf/module/scheduler.
        loss_weights: Weights of the loss's terms.
        freeze_encoder: Train all but `net.encoder`.
        patience: Go on to the next stage after so many epochs without a better score.
    """

    epochs: int
    lr: float | None = None
    image_size: Size | None = None
    batch_size: int | None = None
    positive_fraction: float | Mapping[str, float] | None = None
    strata_weights: Mapping[str, float] | None = None
    scheduler: Callable[..., Any] | None = None
    loss_weights: Mapping[str, float] | None = None
    freeze_encoder: bool = False
    patience: int | None = None

    def fraction(self, epoch: int) -> float | None:
        """The share of positives in the stage's epoch number `epoch` (from 0)."""
        if not isinstance(self.positive_fraction, Mapping):
            return self.positive_fraction
        way = min(1.0, epoch / max(1, self.epochs - 1))
        return self.positive_fraction["from"] + way * (self.positive_fraction["to"] - self.positive_fraction["from"])

    def plan(self, base: Plan, epoch: int) -> Plan:
        """What holds in the stage's epoch number `epoch` (from 0).

        Args:
            base: What holds without a curriculum.
            epoch: Of the stage.
        """
        fraction = self.fraction(epoch)
        return Plan(
            base.image_size if self.image_size is None else Canvas.of(self.image_size),
            self.batch_size or base.batch_size,
            base.batches,
            base.positive_fraction if fraction is None else fraction,
            base.strata_weights if self.strata_weights is None else self.strata_weights,
        )

    def asked(self) -> dict[str, Any]:
        """What was asked for, in plain values."""
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        made = getattr(self.scheduler, "func", None)
        said["scheduler"] = None if made is None else {"name": made.__name__} | dict(getattr(self.scheduler, "keywords", {}))
        plain = {name: dict(value) if isinstance(value, Mapping) else value for name, value in said.items()}
        return {name: value for name, value in plain.items() if value is not None and value is not False}


def stages_of(wanted: Sequence[Mapping[str, Any]], epochs: int) -> list[Stage]:
    """The stages as they stand in the configuration.

    Args:
        wanted: One mapping a stage.
        epochs: Those of the whole fit, which the stages must add up to.

    Raises:
        Refusal: an unknown key, a value that cannot be, or other epochs than the fit's.
    """
    known = [field.name for field in fields(Stage)]
    if not isinstance(wanted, Sequence) or not all(isinstance(stage, Mapping) for stage in wanted):
        raise Refusal(f"callbacks.curriculum.stages={wanted} is no list of stages; write [{{epochs: 10, lr: 1e-3}}, ...]")
    for number, stage in enumerate(wanted):
        where = f"callbacks.curriculum.stages[{number}]"
        unknown = [key for key in stage if key not in known]
        if unknown:
            raise Refusal(f"{where} has the key {unknown[0]}, which no stage knows; the keys are {', '.join(known)}")
        _refuse_values(stage, where)
    total = sum(stage["epochs"] for stage in wanted)
    if not wanted or total != epochs:
        said = " + ".join(str(stage["epochs"]) for stage in wanted)
        raise Refusal(f"the curriculum's stages have {said or 0} = {total} epochs, but trainer.max_epochs={epochs}; set trainer.max_epochs={total}")
    return [Stage(**stage) for stage in wanted]


def _refuse_values(stage: Mapping[str, Any], where: str) -> None:
    for key in ("epochs", "batch_size", "patience"):
        value = stage.get(key)
        if (key == "epochs" or value is not None) and not (type(value) is int and value > 0):
            raise Refusal(f"{where}.{key}={value} is not a whole number of 1 or more; write {key}: 32, for instance")
    if stage.get("image_size") is not None:
        check_image_size(stage["image_size"], f"{where}.image_size")
    if stage.get("lr") is not None and not (_is_number(stage["lr"]) and stage["lr"] > 0):
        raise Refusal(f"{where}.lr={stage['lr']} is no learning rate; take a number above 0, or leave it out for module.optimizer.lr")
    if type(stage.get("freeze_encoder", False)) is not bool:
        raise Refusal(f"{where}.freeze_encoder={stage['freeze_encoder']} is neither true nor false; write one of them")
    if stage.get("scheduler") is not None and not callable(stage["scheduler"]):
        mend = "write {_target_: lightning_modules.schedules.one_cycle, _partial_: true}, for instance"
        raise Refusal(f"{where}.scheduler={stage['scheduler']} is no schedule; {mend}")
    weights = stage.get("loss_weights")
    if weights is not None and not (isinstance(weights, Mapping) and all(map(_is_number, weights.values()))):
        raise Refusal(f"{where}.loss_weights={weights} is no weight a term; write {{dice: 0.4, focal: 0.6}}, by the names of module.loss.terms")
    fraction = stage.get("positive_fraction")
    if isinstance(fraction, Mapping) and set(fraction) != {"from", "to"}:
        raise Refusal(f"{where}.positive_fraction={dict(fraction)} is neither a share nor {{from: .8, to: .22}}; write one of the two")
    for share in fraction.values() if isinstance(fraction, Mapping) else [fraction]:
        refuse_rates(share, stage.get("strata_weights"), where)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
