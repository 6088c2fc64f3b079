"""Write cls_prob.csv when a test ends: each image's probability, and whether it was trained on."""

from pathlib import Path

import numpy as np
import pandas as pd
from lightning import Callback, LightningModule, Trainer

from datamodules import probabilities
from datamodules.arguments import FilePath, validated
from datamodules.probabilities import HELD_OUT, IN_SAMPLE, OUT_OF_FOLD
from datamodules.refusal import UserError
from lightning_modules.evaluated import EvaluatedModule
from lightning_modules.label_evidence import ClassificationEvidence


@validated
class HardExampleScoreWriter(Callback):
    """Write the probability of every evaluated image; `merge_fold_scores` makes one table of all folds.

    Example:
        callbacks: {class_probabilities: {run_dir: "${paths.run}"}}

    Args:
        run_dir: The run folder.
    """

    def __init__(self, run_dir: FilePath) -> None:
        self.run_dir = Path(run_dir)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses several classes before training."""
        if isinstance(pl_module, EvaluatedModule) and (
            pl_module.target != "label" or len(pl_module.classes) != 1
        ):
            raise UserError(
                "class_probabilities is of one class that is there or not; take it out of"
                " callbacks=[...] for other modules"
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
        judged = [
            _evaluated_scores(evidence)
            for evidence in pl_module.evidence.values()
            if isinstance(evidence, ClassificationEvidence)
        ]
        table = rows.join(pd.concat(judged).groupby(level=0).first(), how="left").reset_index()
        pooled = (
            data.folds > 0 and data.fold_pool == "train_val"
        )  # then other folds were trained on what is val here
        val = np.where((table["outer_split"] == "train") | pooled, OUT_OF_FOLD, HELD_OUT)
        table["seen"] = np.select(
            [table["split"] == "train", table["split"] == "val"],
            [np.full(len(table), IN_SAMPLE), val],
            HELD_OUT,
        )
        probabilities.write_scores(table.assign(split=table["outer_split"]), self.run_dir)


def _evaluated_scores(evidence: ClassificationEvidence) -> pd.DataFrame:
    return pd.DataFrame({"cls_prob": evidence.probability[:, 0]}, index=evidence.ids)
