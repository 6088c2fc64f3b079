"""The weights of the best checkpoint as an artifact, without the rest of the checkpoint.

Left out are folders, the optimizer and other callbacks' states.
"""

import os
from pathlib import Path
from typing import Any

import torch

from lightning_modules import checkpoints, training_record


def log_model_artifact(run: Any, folder: Path) -> None:
    """Log `model.ckpt`; do nothing where no best checkpoint was kept.

    `init_from`, and `ckpt_path` of a test, read it.

    Args:
        run: Of W&B.
        folder: The run folder.
    """
    import wandb

    best = folder / "checkpoints" / "best.ckpt"
    if not best.is_file():
        return
    path = (
        Path(run.dir).parent / "model.ckpt"
    )  # beside the run's other files, so that an offline run can be sent later
    torch.save(strip_checkpoint(checkpoints.read_checkpoint(best)), path)
    artifact = wandb.Artifact(f"model-{run.id}", "model")
    artifact.add_file(os.path.relpath(path), name="model.ckpt", policy="immutable", skip_cache=True)
    run.log_artifact(artifact, aliases=["best"])


def strip_checkpoint(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Keep of a checkpoint what a network is made from again.

    That is its weights with its rule, the data module's state, and hashes of the images it has
    seen.
    """
    sizes = {name: state for name, state in checkpoint.items() if name.endswith("DataModule")}
    record = (
        {training_record.KEY: checkpoint[training_record.KEY]}
        if training_record.KEY in checkpoint
        else {}
    )
    return {"state_dict": checkpoint["state_dict"]} | record | sizes
