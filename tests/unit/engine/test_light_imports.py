"""What answers before a run starts, and what starts trials, imports neither torch nor lightning."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
LIGHT = [
    "run",
    "engine.cli",
    "engine.fold_overrides",
    "engine.run_lock",
    "engine.sweeps.hydra_callback",
    "engine.sweeps.optuna_sweeper",
    "engine.sweeps.process_launcher",
    "engine.sweeps.wandb_sweep",
    "hydra_plugins.medical_lightning.optuna_sweeper",
    "hydra_plugins.medical_lightning.process_launcher",
    "lightning_modules.launch_environment",
    "reporting.commands",
    "reporting.config_diff",
    "reporting.outcome",
]


def test_no_light_module_imports_torch_or_lightning():
    code = "import sys\n" + "".join(
        f"import {name}\nassert not {{'torch', 'lightning'}} & set(sys.modules), {name!r}\n"
        for name in LIGHT
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
