"""Base of the decision rule searches: one after each validation; test uses the rule as it is."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from datamodules.refusal import UserError
from lightning_modules.evaluated import EvaluatedModule
from lightning_modules.evidence import Evidence

CONFIG_KEY = {
    "mask": "threshold_search",
    "label": "label_threshold",
}  # in conf/callbacks, the search for each kind of evidence


class ThresholdSearchCallback(Callback):
    """Search the decision rule on the evidence of each validation; subclasses say how."""

    kind: type[Evidence]

    def __init__(self) -> None:
        self.found: list[
            dict[str, Any]
        ] = []  # per class, for the report: objective, score, at_half, warning

    @abstractmethod
    def search_rule(self, evidence: Any) -> Tensor:
        """Return the rule's numbers, `classes x 3`, and set `self.found`."""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Search before the module logs its scores, so that they are scores at the new rule."""
        if trainer.sanity_checking or not isinstance(pl_module, EvaluatedModule):
            return
        evidence = pl_module.collect("val")
        if not isinstance(evidence, self.kind):
            raise UserError(
                f"callbacks.threshold_search is one for {self.kind.kind}s; take"
                f" callbacks=[...,{CONFIG_KEY[evidence.kind]},...] for this module"
            )
        pl_module.rule.numbers = self.search_rule(evidence)
        pl_module.evidence["val"] = evidence.with_rule(pl_module.rule.numbers)
        self.on_rule_found(trainer, pl_module)
        self._store_in_checkpoint(trainer, pl_module)

    def _store_in_checkpoint(self, trainer: Trainer, module: EvaluatedModule) -> None:
        """Write the new rule into the validated checkpoint of this run, which test reads again."""
        path = Path(str(trainer.ckpt_path))
        own = getattr(trainer.checkpoint_callback, "dirpath", None)
        if trainer.state.fn != TrainerFn.VALIDATING or own is None or path.parent != Path(own):
            return
        if trainer.is_global_zero:
            _write_rule(path, module)
        trainer.strategy.barrier("the rule is written")  # test reads the file on every rank

    def on_rule_found(self, trainer: Trainer, module: EvaluatedModule) -> None:
        """Check what was found; does nothing unless overridden."""


def _write_rule(path: Path, module: EvaluatedModule) -> None:
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    if not torch.equal(checkpoint["state_dict"]["rule._extra_state"], module.rule.numbers):
        checkpoint["state_dict"]["rule._extra_state"] = module.rule.numbers
        unfinished = path.with_suffix(".tmp")
        torch.save(checkpoint, unfinished)
        unfinished.replace(path)
