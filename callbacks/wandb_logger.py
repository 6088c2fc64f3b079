"""W&B, online where there is a login, else offline with one line that says so."""

from typing import Any, Literal

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only


def wandb_logger(save_dir: str, project: str, mode: Literal["online", "offline", "disabled"] = "online", **arguments: Any) -> WandbLogger:
    """Lightning's WandbLogger.

    Args:
        save_dir: Where run files are written.
        project: Name of the project on W&B.
        mode: `online` falls back to `offline` without a login; `disabled` writes nothing.
        **arguments: As `WandbLogger`.
    """
    import wandb

    if mode == "online" and not wandb.api.api_key:
        _say("W&B: no login found, so this run is kept offline; log in with `wandb login`, or set logger.wandb.mode=disabled")
        mode = "offline"
    return WandbLogger(save_dir=save_dir, project=project, mode=mode, offline=mode == "offline", **arguments)


@rank_zero_only
def _say(sentence: str) -> None:
    print(sentence, flush=True)
