"""Find the best threshold, and temperature if asked, on val and leave them in the module."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from callbacks.rule_search import ThresholdSearchCallback
from datamodules.arguments import FilePath, Fraction, FractionRange, validated
from datamodules.refusal import UserError
from lightning_modules import label_search
from lightning_modules.evaluated import EvaluatedModule
from lightning_modules.label_evidence import ClassificationEvidence
from lightning_modules.label_rule import ClassificationRule
from lightning_modules.temperature import fit_temperature

SELECTED_FILE = "selected_threshold.json"
UNREACHED_HINT = (
    "lower callbacks.threshold_search.min_metrics and go on with ckpt_path=RUN trainer.max_epochs={},"
    " which fits nothing more and searches again"
)


@validated
class ClassificationThresholdSearch(ThresholdSearchCallback):
    """Search each class's threshold; `temperature` first calibrates its logits by a divisor.

    Where the bounds cannot be kept, training continues with the nearest threshold; the best
    checkpoint is then not tested.

    Example:
        callbacks:
          threshold_search:
            run_dir: ${paths.run}
            objective: f1                    # f1, youden (sensitivity + specificity - 1), accuracy,
                sensitivity, specificity
            min_metrics: {sensitivity: 0.85}    # bounds on val; null or absent: none
            threshold_range: [0.0, 1.0]              # thresholds that may be taken
            temperature: false

    After a fit `selected_threshold.json` in the run folder says what was selected, and what it
    reaches on val.

    Args:
        run_dir: The run folder.
        objective: What is maximised; `specificity` under `at_least: {sensitivity: .85}`, and the
            reverse, is what others call sens_atleast.
        min_metrics: Lower bounds of sensitivity, specificity or precision.
        threshold_range: Smallest and largest threshold.
        temperature: Calibrate on val.

    Raises:
        Refusal: an unknown objective or a bound that is no share.
    """

    kind = ClassificationEvidence

    def __init__(
        self,
        run_dir: FilePath,
        objective: str = "f1",
        min_metrics: Mapping[str, Fraction | None] | None = None,
        threshold_range: FractionRange = (0.0, 1.0),
        temperature: bool = False,
    ) -> None:
        super().__init__()
        self.path = Path(run_dir) / SELECTED_FILE
        bounds = {name: least for name, least in (min_metrics or {}).items() if least is not None}
        self.demand = label_search.ThresholdObjective(
            objective, bounds, (float(threshold_range[0]), float(threshold_range[1]))
        )
        self.temperature = temperature
        self._missed: str | None = None

    def search_rule(self, evidence: ClassificationEvidence) -> Tensor:
        """Search class by class; exclusive classes share a temperature and need no threshold."""
        warm = torch.tensor(
            [[0.5, t, 1.0] for t in self._fit_temperatures(evidence)], dtype=torch.float64
        )
        if evidence.exclusive and self.demand.at_least:
            raise UserError(
                "callbacks.threshold_search.min_metrics bounds a threshold, and classes that exclude"
                " one another have none; leave it out"
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
            label_search.search_classification_rule(
                probability[:, c], evidence.labels[:, c] > 0, self.demand
            )
            for c in range(len(evidence.classes))
        ]
        said = {True: "no better than always saying the same", False: None}
        self.found = [
            {
                "objective": self.demand.objective,
                "score": f.score,
                "at_half": f.at_half,
                "warning": f.unsearched or f.missed or said[f.trivial],
            }
            for f in found
        ]
        self._missed = next(
            (
                f"{name}: {f.missed}"
                for name, f in zip(evidence.classes, found, strict=True)
                if f.missed
            ),
            None,
        )
        return torch.tensor(
            [
                [f.threshold, t, float(f.missed is None)]
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
        """Refuse the best checkpoint if it misses the bounds, else write its threshold down.

        During a fit nothing is refused, because the next epoch may do better.
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
        """Map each class to its rule, what that was selected by, and what it reaches on val."""
        demand = {"objective": self.demand.objective, "at_least": dict(self.demand.at_least)}
        found: dict[str, Any] = {}
        for c, name in enumerate(evidence.classes):
            threshold, divisor, _ = evidence.rule[0, c].tolist()
            reached = label_search.metrics_at_threshold(
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
        """Refuse a checkpoint whose rule does not keep the demanded bounds."""
        rule = pl_module.rule if isinstance(pl_module, EvaluatedModule) else None
        if isinstance(rule, ClassificationRule) and not bool(rule.numbers[:, 2].all()):
            raise UserError(
                "this checkpoint's threshold does not keep the bounds it was searched under;"
                f" {UNREACHED_HINT.format('EPOCHS_OF_RUN')}"
            )
