"""Learns masks: binary or multi-label segmentation with a searched decision rule."""

from typing import Any

from torch import Tensor

from datamodules.refusal import Refusal
from datamodules.sample import Sample
from lightning_modules.decision import decide, dice
from lightning_modules.evidence import Evidence, EvidenceCollector
from lightning_modules.histograms import histograms
from lightning_modules.mask_rule import MaskRule
from lightning_modules.supervised import Stage, SupervisedModule


class SegmentationModule(SupervisedModule):
    """Logits `B x classes x H x W`, a sigmoid each, and a mask rule per class.

    After each validation or test `evidence[stage]` holds what was seen; `val/dice` is the score at the rule in force,
    `val/dice_at_half` that at a threshold of .5.

    Args:
        classes: Names of the classes, in channel order.
        evaluation_size: The grid on which evidence is taken; it is written into it.
        **supervised: As `SupervisedModule`.
    """

    target = "mask"

    def __init__(self, classes: list[str], evaluation_size: int | str = "native", **supervised: Any) -> None:
        super().__init__(**supervised)
        self.classes = tuple(classes)
        self.evaluation_size = evaluation_size
        self.rule = MaskRule(len(classes))
        self.evidence: dict[str, Evidence] = {}
        self._collector = EvidenceCollector()

    def setup(self, stage: str) -> None:
        """Refuses a data set with other classes."""
        of_data = self.trainer.datamodule.table.classes  # type: ignore[attr-defined]
        if of_data != self.classes:
            raise Refusal(f"module.classes={list(self.classes)}, but the data has {list(of_data)}; set module.classes and module.net.classes")

    def keep(self, logits: Tensor, batch: Sample, stage: Stage) -> None:
        """Adds the batch's histograms to the evidence."""
        self._collector.add(batch["id"], batch["group"], histograms(logits, batch["truth"], batch["content"]))

    def collect(self, stage: Stage) -> Evidence:
        """Closes an evaluation: the evidence of all processes, also left in `self.evidence`."""
        group_is = self.trainer.datamodule.table.group_is  # type: ignore[attr-defined]
        self.evidence[stage] = self._collector.collect(self.rule.numbers, self.classes, str(self.evaluation_size), group_is)
        return self.evidence[stage]

    def on_validation_epoch_start(self) -> None:
        """Forgets the last validation."""
        self.evidence.pop("val", None)

    def on_validation_epoch_end(self) -> None:
        """Logs the scores that steer training."""
        self._log_dice("val")

    def on_test_epoch_start(self) -> None:
        """Forgets the last test."""
        self.evidence.pop("test", None)

    def on_test_epoch_end(self) -> None:
        """Collects and logs the test scores."""
        self._log_dice("test")

    def _log_dice(self, stage: Stage) -> None:
        evidence = self.evidence[stage] if stage in self.evidence else self.collect(stage)
        half = MaskRule(len(self.classes)).numbers.numpy()
        plain = Evidence(**{**vars(evidence), "rule": half[None].repeat(len(evidence), axis=0)})
        for name, judged in ((f"{stage}/dice", evidence), (f"{stage}/dice_at_half", plain)):
            value = sum(float(dice(decide(judged, c).pixels).mean()) for c in range(len(self.classes))) / len(self.classes)
            self.log(name, value, prog_bar=name == "val/dice", rank_zero_only=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Writes the rule in force; weight averaging would else save the one of its first copy."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["state_dict"]["rule._extra_state"] = self.rule.get_extra_state()
