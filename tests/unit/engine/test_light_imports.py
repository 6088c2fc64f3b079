"""What answers before a run starts, and what starts trials, imports neither torch nor lightning."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LIGHT = [
    "run",
    "callbacks.curriculum_stage",
    "datamodules.arguments",
    "datamodules.errors",
    "datamodules.file_errors",
    "datamodules.image_size",
    "datamodules.sampling.config",
    "engine.cli",
    "engine.config_check",
    "engine.overrides",
    "engine.resume",
    "engine.tasks",
    "engine.run_lock",
    "engine.run_references",
    "engine.sweeps.hydra_callback",
    "engine.sweeps.optuna_sweeper",
    "engine.sweeps.process_launcher",
    "engine.sweeps.trial",
    "engine.sweeps.wandb_sweep",
    "evaluation.bootstrap",
    "evaluation.decision_rule",
    "evaluation.evidence",
    "evaluation.metrics.classification",
    "evaluation.metrics.measurement",
    "evaluation.metrics.segmentation",
    "evaluation.metrics.surface_distance",
    "evaluation.rule_search",
    "evaluation.threshold_objective",
    "evaluation.threshold_sweep",
    "hydra_plugins.medical_lightning.optuna_sweeper",
    "hydra_plugins.medical_lightning.process_launcher",
    "lightning_modules.instantiation",
    "lightning_modules.launch_environment",
    "lightning_modules.module_config",
    "lightning_modules.networks.lora_config",
    "reporting.commands",
    "reporting.comparison",
    "reporting.config_diff",
    "reporting.cross_validation",
    "reporting.leaderboard",
    "reporting.outcome",
    "reporting.run_folder",
    "reporting.run_index",
    "reporting.sweep_report",
    "reporting.variant_comparison",
    "weak_supervision.quality",
    "weak_supervision.segmenters.classical",
]


CODE = """
import importlib, sys
for name in {names}:
    importlib.import_module(name)
    heavy = {{"torch", "lightning", "torchmetrics", "transformers"}} & set(sys.modules)
    if heavy:
        sys.exit(f"{{name}} imports {{', '.join(sorted(heavy))}}")
"""


def import_all(names: list[str]) -> str:
    """Import modules one after the other in a process of their own; return what is wrong."""
    code = CODE.format(names=names)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    return done.stderr if done.returncode else ""


def test_light_modules_import_neither_torch_nor_lightning():
    assert import_all(LIGHT) == ""


def test_a_module_that_imports_torch_is_named():
    found = import_all(["engine.cli", "evaluation.rule_modules"])
    assert found.startswith("evaluation.rule_modules imports") and "torch" in found


@pytest.mark.slow
@pytest.mark.parametrize("name", LIGHT)
def test_a_light_module_can_be_imported_alone(name):
    assert import_all([name]) == ""
