"""The task do=[fetch]: pretrained weights of an experiment into the folder `paths.weights`."""

from pathlib import Path

from omegaconf import DictConfig

from engine.data_classes import set_known_classes
from lightning_modules.configured_weights import find_requests
from lightning_modules.pretrained.fetch import FetchedWeights, fetch_weights


def run_fetch(cfg: DictConfig) -> None:
    """Fetch all pretrained weights that an experiment asks for; what is there stays.

    Args:
        cfg: Configuration of the experiment.

    Raises:
        UserError: Weights cannot be had, or are damaged.
    """
    set_known_classes(cfg)
    folder = Path(cfg.paths.weights).expanduser()
    requests = find_requests(cfg)
    wanted = [request for request in requests if not request.is_path]
    for request in requests:
        if request.is_path:
            print(f"{request.key}={request.value} is a file of yours: nothing to fetch")
    for request in wanted:
        print(_describe(fetch_weights(request, folder)), flush=True)
    if not requests:
        print(f"{cfg.title} asks for no pretrained weights: nothing to fetch")
    if wanted:
        print(
            f"{folder} holds all pretrained weights of {cfg.title}; copy it to a machine without a"
            " network, and set paths.weights (or the variable MEDICAL_WEIGHTS) to it there"
        )


def _describe(fetched: FetchedWeights) -> str:
    request, entry = fetched.request, fetched.entry
    what = "fetched" if fetched.is_new else "already there"
    line = f"{what}: weights of {request.network}, {fetched.files[0]}"
    if entry is None:
        return f"{line} (put there by hand)"
    about = [
        f"{entry.size / 1e6:.1f} MB",
        f"SHA-256 {entry.sha256[:16]}...",
        f"from {entry.source}",
        entry.license or "license not stated",
    ]
    return f"{line} ({', '.join(about)})"
