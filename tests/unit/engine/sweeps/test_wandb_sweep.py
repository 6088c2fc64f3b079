"""Tests of do=[wandb_sweep]: the sweep file and the command that the W&B agent makes of it."""

from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from engine.sweeps.wandb_sweep import to_wandb_parameter
from run import CONF

DISTRIBUTIONS = {
    "log_uniform_values": {"min", "max"},
    "uniform": {"min", "max"},
    "int_uniform": {"min", "max"},
    "q_uniform": {"min", "max", "q"},
}


@pytest.mark.parametrize(
    ("drawn", "said"),
    [
        (
            FloatDistribution(1e-4, 1e-2, log=True),
            {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
        ),
        (FloatDistribution(0.1, 0.5), {"distribution": "uniform", "min": 0.1, "max": 0.5}),
        (
            FloatDistribution(0.1, 0.5, step=0.1),
            {"distribution": "q_uniform", "min": 0.1, "max": 0.5, "q": 0.1},
        ),
        (IntDistribution(1, 9), {"distribution": "int_uniform", "min": 1, "max": 9}),
        (
            IntDistribution(1, 64, log=True),
            {"distribution": "q_log_uniform_values", "min": 1, "max": 64, "q": 1},
        ),
        (IntDistribution(64, 128, step=32), {"values": [64, 96, 128]}),
        (CategoricalDistribution([4, "null", None, True]), {"values": [4, "null", "null", True]}),
    ],
)
def test_each_distribution_in_the_words_of_wandb(drawn, said):
    assert to_wandb_parameter(drawn) == said


def as_agent(sweep: dict, values: dict) -> list[str]:
    """Build wandb_agent.py's command with wandb's own functions, macro entries expanded."""
    macros = create_sweep_command_args(
        {"args": {key: {"value": value} for key, value in values.items()}}
    ) | {"env": ["/usr/bin/env"]}
    entries = create_sweep_command(sweep["command"])
    return [
        word
        for entry in entries
        for word in (macros.get(entry[2:-1]) or [] if entry.startswith("${") else [entry])
    ]


def test_the_agents_command_composes_to_an_ordinary_run_with_its_values(cli, tmp_path):
    code, said = cli(
        "experiment=lora_pneumonia",
        "hparams_search=lora_pneumonia",
        "scale=demo",
        "do=wandb_sweep",
        "module.loss.alpha=0.3",
    )
    assert code == 0, said
    sweep = yaml.safe_load((tmp_path / "run/sweep.yaml").read_text())
    assert (sweep["method"], sweep["metric"], sweep["run_cap"]) == (
        "bayes",
        {"name": "val/f1", "goal": "maximize"},
        20,
    )
    assert sweep["parameters"].keys() == {
        "module.optimizer.lr",
        "module.net.lora.rank",
        "module.net.lora.alpha",
    }
    assert all(
        "values" in said or said.keys() == {"distribution"} | DISTRIBUTIONS[said["distribution"]]
        for said in sweep["parameters"].values()
    )
    assert (
        sweep["early_terminate"] == {"type": "hyperband", "min_iter": 4}
        and sweep["program"] == "run.py"
        and sweep["project"]
    )
    words = as_agent(
        sweep,
        {"module.optimizer.lr": 0.00031, "module.net.lora.rank": 16, "module.net.lora.alpha": 32},
    )
    assert (
        words[:3] == ["/usr/bin/env", "python", "run.py"]
        and Path(CONF).parent.joinpath(words[2]).is_file()
    )
    with initialize_config_dir(str(CONF)):
        cfg = compose("run", words[3:], return_hydra_config=True)
    assert (
        cfg.module.optimizer.lr,
        cfg.module.net.lora.rank,
        cfg.module.net.lora.alpha,
        cfg.module.loss.alpha,
    ) == (0.00031, 16, 32, 0.3)
    folder = OmegaConf.to_container(cfg.hydra.run, resolve=False)["dir"]
    assert (
        "wandb" in cfg.logger
        and cfg.do == ["fit", "test"]
        and folder.endswith("/wandb-${oc.env:WANDB_RUN_ID}")
    )


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            ["experiment=weak_bone_scan"],
            "do=[wandb_sweep] needs a space to search; add hparams_search=NAME",
        ),
        (["experiment=lora_pneumonia", "folds=5"], "folds=5 gives several fits per run"),
    ],
)
def test_what_cannot_be_a_sweep_is_refused(words, why, cli, tmp_path):
    code, said = cli(*words, "do=[wandb_sweep]")
    assert (
        code == 2
        and said.strip().count("\n") == 0
        and why in said
        and not (tmp_path / "run/sweep.yaml").exists()
    )
