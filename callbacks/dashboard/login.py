"""Whether W&B has a login on this machine; nothing of it is read further, and W&B is not imported."""

import configparser
import netrc
import os
from pathlib import Path
from urllib.parse import urlsplit

SERVER = "https://api.wandb.ai"


def logged_in() -> bool:
    """Whether the environment or ~/.netrc holds a key for the server that is set."""
    return (
        any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"))
        or _in_netrc()
    )


def _server() -> str:
    """The server that `wandb login --host` wrote down, else W&B's own."""
    said = configparser.ConfigParser()
    folder = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    try:
        said.read([folder / "settings", Path("wandb") / "settings"])
        return said.get("default", "base_url", fallback=SERVER)
    except (OSError, configparser.Error):
        return SERVER


def _in_netrc() -> bool:
    file = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or _server()).hostname or ""
    try:
        return netrc.netrc(str(file)).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
