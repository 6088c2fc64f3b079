"""Writer of the probabilities that identify hard examples, cls_prob.csv."""

from pathlib import Path

import numpy as np
import pandas as pd
from lightning import Callback, LightningModule, Trainer

from datamodules.arguments import FilePath, validated
from datamodules.errors import UserError
from datamodules.sampling import hard_example_scores
from datamodules.sampling.hard_example_scores import HELD_OUT, IN_SAMPLE, OUT_OF_FOLD
from evaluation.evidence import ClassificationEvidence
from lightning_modules.base import EvaluatedModule


@validated
class HardExampleScoreWriter(Callback):
    """Callback that writes the probability of every evaluated image to cls_prob.csv.

    `merge_fold_scores` merges the files of folds.

    Example:
        callbacks: {class_probabilities: {run_dir: "${paths.run}"}}

    Args:
        run_dir: The run folder.
    """

    def __init__(self, run_dir: FilePath) -> None:
        self.run_dir = Path(run_dir)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse several classes, before training."""
        if isinstance(pl_module, EvaluatedModule) and (
            pl_module.target != "label" or len(pl_module.classes) != 1
        ):
            raise UserError(
                "class_probabilities needs a module with one binary class; remove it from"
                " callbacks=[...]"
            )

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table; after a fit it includes val, evaluated by the best weights."""
        if (
            not trainer.is_global_zero
            or trainer.fast_dev_run  # type: ignore[attr-defined]
            or not isinstance(pl_module, EvaluatedModule)
        ):
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        rows = data.table.rows.set_index("id")[["split", "outer_split"]]
        evaluated = [
            _evaluated_scores(evidence)
            for evidence in pl_module.evidence.values()
            if isinstance(evidence, ClassificationEvidence)
        ]
        table = rows.join(pd.concat(evaluated).groupby(level=0).first(), how="left").reset_index()
        pooled = (
            data.folds > 0 and data.fold_pool == "train_val"
        )  # other folds were then trained on the val images of this one
        val = np.where((table["outer_split"] == "train") | pooled, OUT_OF_FOLD, HELD_OUT)
        table["seen"] = np.select(
            [table["split"] == "train", table["split"] == "val"],
            [np.full(len(table), IN_SAMPLE), val],
            HELD_OUT,
        )
        hard_example_scores.write_scores(table.assign(split=table["outer_split"]), self.run_dir)


def _evaluated_scores(evidence: ClassificationEvidence) -> pd.DataFrame:
    return pd.DataFrame({"cls_prob": evidence.probability[:, 0]}, index=evidence.ids)
