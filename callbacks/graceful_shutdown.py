"""Clean stop on SIGINT, SIGTERM or SIGUSR2: all ranks finish the step, save and stop.

The next start continues from the saved state; see `engine/resume.py`.
"""

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only
from torch import distributed

from datamodules.arguments import FilePath, validated
from reporting.outcome import RepeatedSignal, RunInterrupted, StopRequested


class AnyRankFlag:
    """Asynchronous flag that is True on all ranks once it is set on any rank.

    All ranks get the result at the same step, one step later; with one process immediately. The
    flags are exchanged between CPUs (gloo) while the next step computes, so that no GPU has to
    wait.

    Args:
        world_size: Number of processes; all of them must create the flag together.
    """

    def __init__(self, world_size: int) -> None:
        self._group: Any = distributed.new_group(backend="gloo") if world_size > 1 else None
        self._flag = torch.zeros(1)
        self._work: Any = None

    def poll(self, mine: bool) -> bool:
        """Return True if the flag was set on any rank by the last step; call it at every step.

        Args:
            mine: Answer of this rank.
        """
        if self._group is None:
            return mine
        result = self._collect()
        self._flag = torch.tensor([float(mine)])
        self._work = distributed.all_reduce(
            self._flag, distributed.ReduceOp.MAX, group=self._group, async_op=True
        )
        return result

    def sync(self, mine: bool) -> bool:
        """Return True if the flag is set on any rank; all ranks call it and wait for each other.

        Args:
            mine: Answer of this rank.
        """
        if self._group is None:
            return mine
        before = self._collect()
        flag = torch.tensor([float(mine or before)])
        distributed.all_reduce(flag, distributed.ReduceOp.MAX, group=self._group)
        return bool(flag)

    def _collect(self) -> bool:
        if self._work is None:
            return False
        self._work.wait()
        self._work = None
        return bool(self._flag)


REQUEUE_TIMEOUT = 60  # seconds within which a requeued job ends
REQUEUE = getattr(
    signal, "SIGUSR2", None
)  # signal of submitit at the end of a job's time; Windows does not have it


@validated
class GracefulShutdown(Callback):
    """Callback that stops all ranks cleanly at the end of the same step after SIGINT or SIGTERM.

    A Slurm job that submitit is about to requeue (SIGUSR2) saves first, and is then requeued by
    submitit's own handler.

    Example:
        callbacks: {graceful_shutdown: {dirpath: "${paths.run}/checkpoints"}}

    Args:
        dirpath: Folder in which last.ckpt is written.
    """

    def __init__(self, dirpath: FilePath) -> None:
        self.path = Path(dirpath) / "last.ckpt"
        self._asked = 0  # the signal that was received
        self._before: dict[int, Any] = {}
        self._ranks = AnyRankFlag(1)
        self._repeated = RepeatedSignal()
        self._launcher: Any = None  # of the other ranks, which an evaluation has to stop

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Create the flag here, because all ranks must create it together."""
        self._ranks = AnyRankFlag(trainer.world_size)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the signal handlers.

        They replace Lightning's, because its handler of SIGTERM would wait for the other ranks.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        self._install(self._on_signal)
        if REQUEUE is not None and callable(
            signal.getsignal(REQUEUE)
        ):  # a handler will requeue this job
            self._before[REQUEUE] = signal.signal(REQUEUE, self._on_signal)

    def _install(self, handler: Callable[[int, FrameType | None], None]) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before.setdefault(number, signal.getsignal(number))
            signal.signal(number, handler)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop a validation outside of a fit at once."""
        if trainer.state.fn != TrainerFn.FITTING:
            self._stop_at_once(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop a test at once; Lightning's own handler of SIGTERM would continue."""
        self._stop_at_once(trainer)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop a prediction at once."""
        self._stop_at_once(trainer)

    def _stop_at_once(self, trainer: Trainer) -> None:
        if threading.current_thread() is threading.main_thread():
            self._launcher = trainer.strategy.launcher
            self._install(self._on_signal_in_evaluation)

    def _on_signal_in_evaluation(self, number: int, frame: FrameType | None) -> None:
        if self._repeated(number):
            return
        if self._launcher is not None and hasattr(self._launcher, "kill"):
            self._launcher.kill(number)
        raise StopRequested(number)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._repeated(number):
            return
        if self._asked and number == signal.SIGINT:
            raise StopRequested(number)
        self._asked = self._asked or number
        by_hand = "\nCtrl-C: finishing this step and saving; press it again to stop immediately"
        _print_message(
            by_hand
            if number == signal.SIGINT
            else "received a request to stop: finishing this step and saving"
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop after the optimizer's step within an epoch, where the state is complete.

        run.py puts this callback last.
        """
        agreed = self._ranks.poll(bool(self._asked))
        if not agreed:
            return
        if not trainer.is_last_batch and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            trainer.save_checkpoint(self.path)
            self._stop(trainer)
        self._asked = (
            self._asked or signal.SIGINT
        )  # at the end of the epoch all ranks have the flag

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop between two epochs, after the previous one has written its checkpoints."""
        if self._ranks.sync(bool(self._asked)):
            self._stop(trainer)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *about: Any
    ) -> None:
        """Requeue without waiting for the end of validation; last.ckpt is the previous epoch's."""
        if self._asked == REQUEUE:
            self._requeue()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop after the last epoch."""
        if self._ranks.sync(bool(self._asked)):
            self._requeue()
            raise RunInterrupted(
                "stopped when training was complete; continue with the same command and"
                f" ckpt_path={self.path}"
            )

    def _stop(self, trainer: Trainer) -> None:
        self._requeue()
        raise RunInterrupted(
            f"stopped after step {trainer.global_step}; continue with the same command and"
            f" ckpt_path={self.path}"
        )

    def _requeue(self) -> None:
        """Call the handler that was installed before, such as submitit's.

        The first rank requests the requeue and ends, which ends the others too.
        """
        if REQUEUE in self._before and self._asked == REQUEUE:
            self._before[REQUEUE](REQUEUE, None)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(REQUEUE_TIMEOUT)  # a rank that ended earlier would end the first one too

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Restore the signal handlers after an error too."""
        self.teardown(trainer, pl_module, "fit")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the signal handlers, unless Lightning has restored its own after a complete fit.

        The saved handlers are Lightning's, and would keep this trainer and its network in memory.
        """
        for number, handler in self._before.items():
            if signal.getsignal(number) in (self._on_signal, self._on_signal_in_evaluation):
                signal.signal(number, handler)
        self._before, self._launcher = {}, None


@rank_zero_only
def _print_message(sentence: str) -> None:
    print(sentence, flush=True)
