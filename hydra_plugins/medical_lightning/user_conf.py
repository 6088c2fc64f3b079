"""Lets Hydra search `conf/` of the working folder before the repository's.

Imports nothing heavy, because Hydra loads it before every run.
"""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class UserConf(SearchPathPlugin):
    """Adds the user's own `conf/`; a file there wins over the repository's of the same name."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Put the folder before the repository's."""
        from engine.user_code import user_conf

        folder = user_conf()
        if folder is not None:
            search_path.prepend("user", f"file://{folder}", anchor="main")
