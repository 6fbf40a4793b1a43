import shared  # noqa: F401 - it switches telemetry off, before a test loads what sends it
