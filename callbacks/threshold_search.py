"""Search for the decision rule on val after each validation epoch, for masks and for labels.

The search itself, over evidence, is in `evaluation/rule_search.py`.
"""

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from pydantic import Field
from torch import Tensor

from datamodules.arguments import FilePath, Fraction, FractionRange, validated
from datamodules.errors import UserError
from evaluation import rule_search
from evaluation.decision_rule import ARGMAX_RULE
from evaluation.evidence import ClassificationEvidence, Evidence, SegmentationEvidence
from evaluation.rule_modules import ClassificationRule
from evaluation.rule_search import fit_temperature
from evaluation.threshold_objective import (
    BoundedMetric,
    LowerBound,
    Objective,
    ThresholdObjective,
)
from lightning_modules.base import EvaluatedModule
from lightning_modules.checkpoint_io import read_checkpoint
from lightning_modules.checkpoint_writer import write_tensors
from lightning_modules.training_record import RULE_PRECISION_KEY

CONFIG_KEY = {
    "mask": "threshold_search/segmentation",
    "label": "threshold_search/classification",
}  # option in conf/callbacks for each kind of evidence


class ThresholdSearchCallback(Callback):
    """Base callback that searches the decision rule on the evidence of each validation."""

    kind: type[Evidence]

    def __init__(self) -> None:
        self.found: list[
            dict[str, Any]
        ] = []  # for each class, for the report: objective, score, at_half, warning

    @abstractmethod
    def search_rule(self, evidence: Any) -> Tensor:
        """Return the rule's numbers, `classes x 3`, and set `self.found`."""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Search the rule and set it in the module, which then logs its scores at it."""
        if trainer.sanity_checking or not isinstance(pl_module, EvaluatedModule):
            return
        evidence = pl_module.collect_evidence("val")
        if not isinstance(evidence, self.kind):
            raise UserError(
                f"callbacks.threshold_search is for {self.kind.kind}s; set"
                f" callbacks=[...,{CONFIG_KEY[evidence.kind]},...] for this module"
            )
        pl_module.set_rule(self.search_rule(evidence))
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
        """Check the rule; does nothing unless overridden."""


def _write_rule(path: Path, module: EvaluatedModule) -> None:
    checkpoint, precision = read_checkpoint(path), str(module.trainer.precision)
    rule = checkpoint["state_dict"]["rule._extra_state"]
    known = checkpoint.get(RULE_PRECISION_KEY) == precision
    if not (known and torch.equal(rule, module.rule.values)):
        checkpoint["state_dict"]["rule._extra_state"] = module.rule.values
        checkpoint[RULE_PRECISION_KEY] = precision
        write_tensors(path, checkpoint)


@validated
class SegmentationThresholdSearch(ThresholdSearchCallback):
    """Callback that searches the mask rule (top, min_area, bottom).

    For exclusive classes there is nothing to search: the rule is the argmax.

    Example:
        callbacks:
          threshold_search:
            bottom: [0.0, 1.0]      # probabilities; every byte between them is tried
            top: null               # null: top = bottom, a plain threshold
            min_area: [0]           # fractions of the image
            lesions_only: false

    Args:
        bottom: Range of the threshold for pixels of the mask.
        top: Range of the threshold for certain pixels, or None for top = bottom.
        min_area: Fractions of the image that must be certain.
        lesions_only: True to maximize the Dice of images with a lesion instead of all images.
    """

    kind = SegmentationEvidence

    def __init__(
        self,
        bottom: FractionRange = (0.0, 1.0),
        top: FractionRange | None = None,
        min_area: Annotated[Sequence[Fraction], Field(min_length=1)] = (0.0,),
        lesions_only: bool = False,
    ) -> None:
        super().__init__()
        self.grid = rule_search.RuleGrid.from_ranges(
            list(bottom), None if top is None else list(top), list(min_area)
        )
        self.lesions_only = lesions_only

    def search_rule(self, evidence: SegmentationEvidence) -> Tensor:
        """Search by the mean Dice; a class that is absent from val has a rule but no score."""
        if evidence.exclusive:
            self.found = [
                {
                    "objective": "argmax, nothing searched",
                    "score": None,
                    "at_half": None,
                    "warning": None,
                }
                for _ in evidence.classes
            ]
            return torch.tensor([ARGMAX_RULE for _ in evidence.classes], dtype=torch.float64)
        found = rule_search.search_segmentation_rule(evidence, self.grid, self.lesions_only)
        self.found = [
            self._describe(f, shown)
            for f, shown in zip(found, (evidence.truth[:, :, 1].sum(0) > 0).tolist(), strict=True)
        ]
        return torch.tensor([f.rule for f in found], dtype=torch.float64)

    def _describe(self, found: rule_search.SegmentationRuleResult, shown: bool) -> dict[str, Any]:
        objective = "dice of lesions" if self.lesions_only else "dice"
        if not shown:
            return {"objective": objective, "score": None, "at_half": None, "warning": "not on val"}
        warning = "no better than predicting nothing" if found.no_better_than_empty else None
        if found.at_bound and not warning:
            warning = (
                f"the best {found.at_bound} reaches an end of its range, and one beyond it may be"
                f" better: widen callbacks.threshold_search.{found.at_bound}"
            )
        return {
            "objective": objective,
            "score": found.score,
            "at_half": found.score_at_half,
            "warning": warning,
        }


SELECTED_FILE = "selected_threshold.json"
UNREACHED_HINT = (
    "lower callbacks.threshold_search.min_metrics and continue with ckpt_path=RUN"
    " trainer.max_epochs={}, which searches again without further training"
)


@validated
class ClassificationThresholdSearch(ThresholdSearchCallback):
    """Callback that searches each class's threshold; `temperature` first calibrates its logits.

    If the bounds cannot be satisfied, training continues with the nearest threshold, and the best
    checkpoint is not tested.

    Example:
        callbacks:
          threshold_search:
            run_dir: ${paths.run}
            objective: f1  # or youden (sensitivity + specificity - 1), accuracy, sensitivity,
                           # specificity
            min_metrics: {sensitivity: 0.85}  # bounds on val; null or absent: none
            threshold_range: [0.0, 1.0]  # allowed thresholds
            temperature: false

    After a fit `selected_threshold.json` in the run folder holds the selected threshold and its
    scores on val.

    Args:
        run_dir: The run folder.
        objective: Quantity to maximize; `specificity` with `min_metrics: {sensitivity: .85}` (or
            the reverse) is called sens_atleast in other repositories.
        min_metrics: Lower bounds of sensitivity, specificity or precision.
        threshold_range: Smallest and largest allowed threshold.
        temperature: True to calibrate the logits on val.

    Raises:
        UserError: The objective is unknown, or a bound is not a fraction.
    """

    kind = ClassificationEvidence

    def __init__(
        self,
        run_dir: FilePath,
        objective: Objective = "f1",
        min_metrics: Mapping[BoundedMetric, LowerBound | None] | None = None,
        threshold_range: FractionRange = (0.0, 1.0),
        temperature: bool = False,
    ) -> None:
        super().__init__()
        self.path = Path(run_dir) / SELECTED_FILE
        bounds = {name: least for name, least in (min_metrics or {}).items() if least is not None}
        self.demand = ThresholdObjective(
            objective=objective, min_metrics=bounds, threshold_range=threshold_range
        )
        self.temperature = temperature
        self._missed: str | None = None

    def search_rule(self, evidence: ClassificationEvidence) -> Tensor:
        """Search class by class; exclusive classes share a temperature and need no threshold."""
        warm = torch.tensor(
            [[0.5, t, 1.0] for t in self._fit_temperatures(evidence)], dtype=torch.float64
        )
        if evidence.exclusive and self.demand.min_metrics:
            raise UserError(
                "callbacks.threshold_search.min_metrics bounds a threshold, but exclusive classes"
                " have none; remove it"
            )
        if evidence.exclusive:
            self.found = [
                {
                    "objective": "the most probable class",
                    "score": None,
                    "at_half": None,
                    "warning": None,
                }
                for _ in evidence.classes
            ]
            return warm
        probability = evidence.with_rule(warm).probability
        found = [
            rule_search.search_classification_rule(
                probability[:, c], evidence.labels[:, c] > 0, self.demand
            )
            for c in range(len(evidence.classes))
        ]
        warnings = {True: "no better than a constant prediction", False: None}
        bound = (
            "the best threshold is the end of its range, and one beyond it may be better: widen"
            " callbacks.threshold_search.threshold_range"
        )
        self.found = [
            {
                "objective": self.demand.objective,
                "score": f.score,
                "at_half": f.score_at_half,
                "warning": f.skip_reason
                or f.unmet_bound
                or warnings[f.no_better_than_constant]
                or (bound if f.at_bound else None),
            }
            for f in found
        ]
        self._missed = next(
            (
                f"{name}: {f.unmet_bound}"
                for name, f in zip(evidence.classes, found, strict=True)
                if f.unmet_bound
            ),
            None,
        )
        return torch.tensor(
            [
                [f.threshold, t, float(f.unmet_bound is None)]
                for f, t in zip(found, warm[:, 1].tolist(), strict=True)
            ],
            dtype=torch.float64,
        )

    def _fit_temperatures(self, evidence: ClassificationEvidence) -> list[float]:
        classes = range(len(evidence.classes))
        if not self.temperature:
            return [1.0 for _ in classes]
        if evidence.exclusive:
            return [fit_temperature(evidence.logits, evidence.labels, True)] * len(classes)
        return [
            fit_temperature(evidence.logits[:, c], evidence.labels[:, c], False) for c in classes
        ]

    def on_rule_found(self, trainer: Trainer, module: EvaluatedModule) -> None:
        """Refuse the best checkpoint if it violates the bounds, otherwise write its threshold.

        During a fit nothing is refused, because the next epoch may be better.
        """
        if trainer.state.fn != TrainerFn.VALIDATING:
            return
        if self._missed:
            raise UserError(f"{self._missed}; {UNREACHED_HINT.format(trainer.current_epoch)}")
        evidence = module.evidence["val"]
        if (
            trainer.is_global_zero
            and not trainer.fast_dev_run  # type: ignore[attr-defined]
            and isinstance(evidence, ClassificationEvidence)
        ):
            self.path.write_text(json.dumps(self._selection(evidence), indent=2), encoding="utf-8")

    def _selection(self, evidence: ClassificationEvidence) -> dict[str, Any]:
        """Map each class to its rule, the objective of the selection, and the scores on val."""
        demand = {"objective": self.demand.objective, "at_least": dict(self.demand.min_metrics)}
        found: dict[str, Any] = {}
        for c, name in enumerate(evidence.classes):
            threshold, divisor, _ = evidence.rule[0, c].tolist()
            reached = rule_search.metrics_at_threshold(
                evidence.probability[:, c], evidence.labels[:, c] > 0, threshold
            )
            number = {"temperature": divisor}
            found[name] = (
                number
                if evidence.exclusive
                else {"threshold": threshold} | number | demand | {"val": reached}
            )
        return found

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a checkpoint whose rule does not satisfy the bounds."""
        rule = pl_module.rule if isinstance(pl_module, EvaluatedModule) else None
        if isinstance(rule, ClassificationRule) and not bool(rule.values[:, 2].all()):
            raise UserError(
                "this checkpoint's threshold does not satisfy the bounds of its search;"
                f" {UNREACHED_HINT.format('EPOCHS_OF_RUN')}"
            )
