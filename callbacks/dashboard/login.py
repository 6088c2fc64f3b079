"""Check for a W&B login on this machine, without reading more of it or importing W&B."""

import configparser
import netrc
import os
from pathlib import Path
from urllib.parse import urlsplit

SERVER = "https://api.wandb.ai"


def is_logged_in() -> bool:
    """Return whether the environment or ~/.netrc holds a key for the configured server."""
    return (
        any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"))
        or _has_netrc_entry()
    )


def _server_url() -> str:
    """Return the server that `wandb login --host` wrote down, else W&B's own."""
    said = configparser.ConfigParser()
    folder = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    try:
        said.read([folder / "settings", Path("wandb") / "settings"])
        return said.get("default", "base_url", fallback=SERVER)
    except (OSError, configparser.Error):
        return SERVER


def _has_netrc_entry() -> bool:
    file = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or _server_url()).hostname or ""
    try:
        return netrc.netrc(str(file)).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
