"""The best checkpoint of a run; a run that goes on in a new folder takes it along."""

import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint


class Best(ModelCheckpoint):
    """Lightning's ModelCheckpoint, except that a resumed run still knows the best it had.

    Lightning forgets the best score when the folder is another one, and the first epoch after the interruption would
    become the best, however bad.

    Example:
        callbacks: {checkpoint: {dirpath: "${paths.run}/checkpoints", monitor: val/dice, mode: max}}
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Copies the best checkpoint of the folder that is continued into this one."""
        best = Path(state_dict.get("best_model_path") or "")
        if self.dirpath is not None and str(self.dirpath) != str(state_dict.get("dirpath")) and best.is_file():
            Path(self.dirpath).mkdir(parents=True, exist_ok=True)
            copy = str(shutil.copyfile(best, Path(self.dirpath) / best.name))
            moved = {"dirpath": self.dirpath, "best_model_path": copy, "kth_best_model_path": copy, "last_model_path": ""}
            state_dict = state_dict | moved | {"best_k_models": {copy: state_dict["best_model_score"]}}
        super().load_state_dict(state_dict)
