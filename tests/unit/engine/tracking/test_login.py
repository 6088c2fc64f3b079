"""Tests of finding a W&B login on the chosen server without importing W&B."""

import pytest

from engine.tracking.logger import is_logged_in


@pytest.mark.parametrize(
    ("settings", "found"),
    [("", False), ("[default]\nbase_url = https://wandb.hospital.test\n", True), ("no ini", False)],
)
def test_a_login_on_a_server_of_ones_own_is_found(settings, found, tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "netrc").write_text("machine wandb.hospital.test login user password secret\n")
    (tmp_path / "settings").write_text(settings)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert is_logged_in() is found
