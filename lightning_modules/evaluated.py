"""Evaluation that all modules share: collect evidence, apply the rule, log steering scores."""

from abc import abstractmethod
from typing import Any

import numpy as np
from torch import Tensor

from datamodules.arguments import Names, validated
from datamodules.refusal import UserError
from datamodules.sample import Sample
from lightning_modules.collector import EvidenceCollector
from lightning_modules.evidence import Evidence
from lightning_modules.rule import DecisionRule
from lightning_modules.supervised import Stage, SupervisedModule


@validated
class EvaluatedModule(SupervisedModule):
    """A supervised module with classes, a decision rule and, once evaluated, `evidence[stage]`.

    Args:
        classes: Names of the classes, in channel order.
        rule: A decision rule of as many classes.
        collector: Collects the arrays that this kind of evidence has.
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
        """This module's kind of evidence, from what all kinds have and the collector's arrays."""

    @abstractmethod
    def monitored_metrics(self, evidence: Evidence) -> dict[str, float]:
        """The scores that are logged after an evaluation, by name."""

    def setup(self, stage: str) -> None:
        """Refuses a data set with other classes."""
        super().setup(stage)
        of_data = self.trainer.datamodule.table.classes  # type: ignore[attr-defined]
        if of_data != self.classes:
            raise UserError(
                f"module.classes={list(self.classes)}, but the data has {list(of_data)}; set"
                " module.classes and the net's classes"
            )

    def collect(self, stage: Stage) -> Evidence:
        """Closes an evaluation: the evidence of all processes, also left in `self.evidence`."""
        group_is = self.trainer.datamodule.table.group_is  # type: ignore[attr-defined]

        def make(ids: np.ndarray, **parts: Any) -> Evidence:
            rule = self.rule.numbers.numpy()[None].repeat(len(ids), axis=0)
            return self.make_evidence(
                ids=ids, rule=rule, classes=self.classes, group_is=group_is, **parts
            )

        self.evidence[stage] = self._collector.collect(make)
        return self.evidence[stage]

    def on_validation_epoch_start(self) -> None:
        """Forgets the last validation."""
        super().on_validation_epoch_start()
        self.evidence.pop("val", None)

    def on_validation_epoch_end(self) -> None:
        """Logs the scores that steer training."""
        self._log_scores("val")

    def on_test_epoch_start(self) -> None:
        """Forgets the last test."""
        self.evidence.pop("test", None)

    def on_test_epoch_end(self) -> None:
        """Collects and logs the test scores."""
        self._log_scores("test")

    def _log_scores(self, stage: Stage) -> None:
        evidence = self.evidence[stage] if stage in self.evidence else self.collect(stage)
        for name, value in self.monitored_metrics(evidence).items():
            self.log(
                f"{stage}/{name}",
                value,
                prog_bar=f"{stage}/{name}" == self.monitor["name"],
                rank_zero_only=False,
            )

    def predict_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Logits on the network's canvas; a callback makes files of them."""
        return self(batch["image"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Writes the rule in force; weight averaging would else save the one of its first copy."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["state_dict"]["rule._extra_state"] = self.rule.get_extra_state()
