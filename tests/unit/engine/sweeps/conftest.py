"""A study whose trials train nothing: the launcher of run.py writes outcomes."""

import math

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from engine.sweeps import hydra_callback
from hydra_plugins.medical_lightning.process_launcher import ProcessLauncher
from reporting.outcome import Outcome, write_outcome

SPACE = ["module.optimizer.lr=tag(log,interval(1e-4,1e-2))", "module.net.lora.rank=choice(4,8)"]
WORDS = [
    "-m",
    "experiment=lora_pneumonia",
    "hydra/sweeper=optuna",
    *SPACE,
]


def values(words) -> dict:
    """Key -> value of a trial's words."""
    parsed = OverridesParser.create().parse_overrides(list(words))
    return {
        override.get_key_element(): override.value()
        for override in parsed
        if not override.is_delete()
    }


def score(said: dict) -> float:
    """The best rate is 1e-3."""
    return 1 - abs(math.log10(said["module.optimizer.lr"]) + 3) / 2


@pytest.fixture
def sweep(cli, tmp_path, monkeypatch):
    """Run a study whose trials end by `ending`.

    The call returns the exit code, stderr and the values of each started trial by its number.
    """
    monkeypatch.setattr(hydra_callback, "MULTIRUN_END_STEPS", ())

    def call(
        *words,
        ending=lambda job, said: write_outcome(
            job.folder, Outcome(status="finished", score=score(said))
        ),
        killed_at=None,
    ):
        started = {}

        def carry_out(self, jobs, n_jobs, on_trial_end):
            for job in jobs:
                started[job.number] = said = values(job.overrides)
                if job.number == killed_at:
                    raise SystemExit(137)
                ending(job, said)
                on_trial_end(job)
            return False

        monkeypatch.setattr(ProcessLauncher, "launch_jobs", carry_out)
        code, said = cli(*WORDS, *words, f"hydra.sweep.dir={tmp_path / 'sweep'}")
        return code, said, started

    return call
