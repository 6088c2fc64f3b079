"""Ctrl-C finishes the step, saves last.ckpt and says how to go on; a second Ctrl-C stops at once."""

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from lightning import Callback, LightningModule, Trainer

from datamodules.refusal import Refusal


class Interrupted(Refusal):
    """Training was stopped by the user after saving; the message says how to go on."""

    exit_code = 130


class Interrupt(Callback):
    """Turns SIGINT into a clean stop at the end of the running step.

    Example:
        callbacks: {interrupt: {dirpath: "${paths.run}/checkpoints"}}

    Args:
        dirpath: Where last.ckpt is written.
    """

    def __init__(self, dirpath: str) -> None:
        self.path = Path(dirpath) / "last.ckpt"
        self._asked = False
        self._before: Any = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listens from now on."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        print("\nCtrl-C: finishing this step and saving; once more stops at once", flush=True)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Stops where the state is whole: the optimizer has stepped, the epoch is not over. run.py puts this callback last."""
        if self._asked and not trainer.is_last_batch and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            trainer.save_checkpoint(self.path)
            self._stop(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops between two epochs; the one that ended has written its checkpoints by now."""
        if self._asked:
            self._stop(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops behind the last epoch."""
        if self._asked:
            raise Interrupted(
                f"stopped when training was complete; evaluate it with the same command, do=[test] and ckpt_path={self.path.parent.parent}"
            )

    def _stop(self, trainer: Trainer) -> None:
        raise Interrupted(f"stopped after step {trainer.global_step}; go on with the same command and ckpt_path={self.path}")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Gives Ctrl-C back after an error too."""
        self.teardown(trainer, pl_module, "fit")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Gives Ctrl-C back."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None
