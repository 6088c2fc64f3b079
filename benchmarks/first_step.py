"""Hook, imported before a run, that records when the run's first training step begins.

It appends that time, and the CPU time of the process by then, to the file FIRST_STEP names.
"""

import os
import time
from pathlib import Path

from lightning_modules.base import SupervisedModule

own = SupervisedModule.training_step


def training_step(self, batch, batch_idx):
    if batch_idx == 0 and self.trainer.global_step == 0:
        with Path(os.environ["FIRST_STEP"]).open("a") as file:
            file.write(f"{time.time()} {time.process_time()}\n")
    return own(self, batch, batch_idx)


SupervisedModule.training_step = training_step
