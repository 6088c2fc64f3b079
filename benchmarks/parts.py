"""The parts of an experiment, composed as run.py composes them, for benchmarks to time."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from hydra import compose, initialize_config_dir
from lightning import seed_everything

import run
from engine.runner import build_callbacks, prepare_process
from lightning_modules.instantiation import instantiate_config


class Parts:
    """Data, module and trainer of one experiment; `trainer()` makes a fresh one each time."""

    def __init__(self, folder: str, *overrides: str) -> None:
        with initialize_config_dir(str(run.CONF)):
            self.cfg = compose(
                "run",
                [
                    f"paths.run={folder}",
                    "title=benchmark",
                    "trainer.enable_progress_bar=false",
                    *overrides,
                ],
            )
        prepare_process(self.cfg)
        seed_everything(self.cfg.seed, workers=True, verbose=False)
        self.data = self.make(self.cfg.datamodule)
        self.data.prepare_data()
        self.module = self.make(self.cfg.module)

    def make(self, part: Any, **more: Any) -> Any:
        """Instantiate one part of the configuration."""
        return instantiate_config(part, **more)

    def trainer(self, **more: Any) -> tuple[Any, dict[str, Any]]:
        """Return a fresh trainer, and its callbacks by name."""
        callbacks = build_callbacks(self.cfg)
        loggers = [self.make(part) for part in self.cfg.logger.values()]
        return (
            self.make(self.cfg.trainer, callbacks=list(callbacks.values()), logger=loggers, **more),
            callbacks,
        )
