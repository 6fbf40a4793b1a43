import shared  # noqa: F401 - it switches telemetry off, before a step loads what sends it
