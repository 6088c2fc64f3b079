"""Checkpoint and early-stopping callbacks that survive a resumed fit."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only

from datamodules.arguments import FilePath, NonNegativeFloat, PositiveInt, validated
from datamodules.formats.atomic_write import copy_atomic


@validated
class BestCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, except that a resumed run keeps its best score.

    Lightning drops the best score if the folder changes, and the first epoch after the interruption
    would then become the best, however bad it is.

    Example:
        callbacks: {checkpoint: {dirpath: "${paths.run}/checkpoints", monitor: val/dice, mode: max}}

    Args:
        dirpath: Folder of the checkpoints.
        monitor: Name of the monitored score.
        mode: `max` if the highest score is the best, `min` if the lowest is.
        save_top_k: Number of best checkpoints to keep.
        save_weights_only: True to leave out optimizer and schedule.
        **checkpoint: Arguments of Lightning's ModelCheckpoint.
    """

    def __init__(
        self,
        dirpath: FilePath,
        monitor: str,
        mode: Literal["max", "min"],
        save_top_k: PositiveInt = 1,
        save_weights_only: bool = False,
        **checkpoint: Any,
    ) -> None:
        self._fits = True
        self._trainer: Trainer | None = None
        super().__init__(
            dirpath,
            monitor=monitor,
            mode=mode,
            save_top_k=save_top_k,
            save_weights_only=save_weights_only,
            **checkpoint,
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Note whether a checkpoint's state will be restored for a fit."""
        super().setup(trainer, pl_module, stage)
        self._trainer = trainer  # which knows the file whose state will be restored
        self._fits = stage == "fit"

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Copy the best checkpoints of the resumed run's folder into this one.

        A test or a prediction copies nothing; it only refers to the checkpoint.
        """
        if not self._fits:
            return
        known = getattr(self._trainer, "ckpt_path", None) or Path(
            str(state_dict.get("dirpath")), "x"
        )
        kept = own_checkpoints(state_dict, Path(known).parent)
        if (
            self.dirpath is not None
            and str(self.dirpath) != str(state_dict.get("dirpath"))
            and kept
        ):
            Path(self.dirpath).mkdir(parents=True, exist_ok=True)
            copies = {path: str(Path(self.dirpath) / place.name) for path, place in kept.items()}
            _copy_files(kept.values(), Path(self.dirpath))  # other ranks only need the names
            paths = {
                key: copies.get(state_dict.get(key, ""), "")
                for key in ("best_model_path", "kth_best_model_path")
            }
            models = {copies[path]: state_dict["best_k_models"][path] for path in kept}
            state_dict = (
                state_dict
                | paths
                | {
                    "dirpath": self.dirpath,
                    "last_model_path": "",
                    "best_k_models": models,
                }
            )
        else:  # Lightning deletes the worst of them later, wherever it lies
            models = {path: state_dict["best_k_models"][path] for path in kept}
            state_dict = state_dict | {"best_k_models": models}
        super().load_state_dict(state_dict)


def own_checkpoints(state_dict: dict[str, Any], folder: Path) -> dict[str, Path]:
    """Return the best checkpoints of a callback's state that lie beside the checkpoint itself.

    The state may come with another person's checkpoint: without this check it could name any file
    of the machine, which would be copied into the run folder, or deleted as the worst checkpoint.
    Only the names count, so that a run folder may be moved.

    Args:
        state_dict: State of the callback.
        folder: Folder of the checkpoint that holds the state.

    Returns:
        Path in the state -> the file in that folder.
    """
    found = {path: folder / Path(path).name for path in state_dict.get("best_k_models", {})}
    return {path: file for path, file in found.items() if file.suffix == ".ckpt" and file.is_file()}


@rank_zero_only
def _copy_files(files: Iterable[Path], folder: Path) -> None:
    for file in files:
        copy_atomic(file, folder / file.name)


class TopKCheckpoint(BestCheckpoint):
    """Checkpoint callback that keeps the best k checkpoints of a run, in addition to the best one.

    It is a class of its own, because Lightning distinguishes callbacks by class and monitor.

    Example:
        callbacks: {top_checkpoints: {dirpath: "${paths.run}/checkpoints", filename:
            "top-{epoch:03d}", save_top_k: 3}}
    """


@validated
class ResumableEarlyStopping(EarlyStopping):
    """Lightning's EarlyStopping, except that a resumed run without patience left stays stopped.

    Example:
        callbacks: {early_stopping: {monitor: val/dice, mode: max, patience: 15}}

    Args:
        monitor: Name of the monitored score.
        mode: `max` if the highest score is the best, `min` if the lowest is.
        patience: Number of validations without improvement after which training stops.
        strict: True to raise an error if the score was not logged.
        min_delta: Smallest change of the score that counts as an improvement.
        **stopping: Arguments of Lightning's EarlyStopping.
    """

    def __init__(
        self,
        monitor: str,
        mode: Literal["max", "min"] = "min",
        patience: PositiveInt = 3,
        strict: bool = True,
        min_delta: NonNegativeFloat = 0.0,
        **stopping: Any,
    ) -> None:
        super().__init__(
            monitor, mode=mode, patience=patience, strict=strict, min_delta=min_delta, **stopping
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts; the patience is that of this run's configuration."""
        super().load_state_dict(state_dict | {"patience": self.patience})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop again if patience is used up, because Lightning does not save that it stopped."""
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience
