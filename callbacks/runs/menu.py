"""The text of --help; imports nothing heavy."""

from pathlib import Path

HELP_LINES = """
  scale=demo                       any of them on phantoms, in minutes on a CPU
  do=[test] ckpt_path=RUN          evaluate again (RUN: a run folder or a .ckpt)
  do=[predict] ckpt_path=RUN       masks or probabilities of test, or with datamodule=folder of \
any images
  do=[compare] runs=[A,B]          finished runs beside each other, with the intervals of their \
differences
  do=[validate]                    look at every file of the data set, and say what is wrong
  do=[export]                      the data set as PNGs and a meta.json; do=[crop]: its train \
images as squares around the lesion
  do=[doctor]                      what this machine has, how fast it is, and what would stop a run
  -m hydra/sweeper=optuna          search the experiment's space (conf/sweep); do=[wandb_sweep]: \
the same as a sweep of W&B
  ckpt_path=RUN                    go on exactly where RUN stopped
  init_from=RUN                    start from its weights alone
  folds=5                          five fits, one out-of-fold report
  experiment=NAME --cfg job        every key and its value"""


def help_text(conf: Path) -> str:
    """List the experiments with their one-line descriptions, and further commands.

    Args:
        conf: The folder of the configuration.
    """
    lines = [
        "python run.py experiment=NAME [key=value ...]      (-m for a sweep)",
        "",
        "experiments:",
    ]
    for path in sorted((conf / "experiment").glob("*.yaml")):
        said = [
            line[1:].strip()
            for line in path.read_text(encoding="utf-8").splitlines()
            if line.startswith("# ") and "@package" not in line
        ]
        lines.append(f"  {path.stem:<24}{said[0] if said else ''}")
    return "\n".join([*lines, HELP_LINES])
