"""Imported before a run: notes in the file FIRST_STEP when its first training step begins, and how long this process has computed by then."""

import os
import time
from pathlib import Path

from lightning_modules.supervised import SupervisedModule

own = SupervisedModule.training_step


def training_step(self, batch, batch_idx):
    if batch_idx == 0 and self.trainer.global_step == 0:
        with Path(os.environ["FIRST_STEP"]).open("a") as file:
            file.write(f"{time.time()} {time.process_time()}\n")
    return own(self, batch, batch_idx)


SupervisedModule.training_step = training_step
