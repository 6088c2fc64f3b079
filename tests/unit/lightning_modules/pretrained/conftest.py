"""Fixtures: a hub on this machine, and an empty local cache of it."""

import huggingface_hub.constants as constants
import pytest

from tests.factories.hub import serve_hub


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A server that plays the hub, with an empty local cache."""
    with serve_hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub_cache"))
        monkeypatch.setattr("time.sleep", lambda seconds: None)
        yield server
