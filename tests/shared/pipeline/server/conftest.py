"""What all tests of the server have in common."""

import pytest

from shared import servers
from shared.pipeline import started
from shared.pipeline.server.credentials import COOKIE, ENDPOINT, TOKEN, TOKEN_PATH
from shared.pipeline.server.runs import UI


@pytest.fixture(autouse=True)
def no_settings_of_ours(monkeypatch):
    """And little patience: pauses are parts of it."""
    for name in (COOKIE, ENDPOINT, TOKEN, TOKEN_PATH, UI):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(servers.PATIENCE, "0.5")


@pytest.fixture(autouse=True)
def no_preflight(monkeypatch):
    """It takes seconds, and has tests of its own."""
    monkeypatch.setattr(started, "run_preflight", lambda **_: None)
