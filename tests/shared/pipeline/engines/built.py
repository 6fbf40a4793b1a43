"""Images for tests with a container engine."""

import os
import re
import shlex
import shutil
import subprocess

import pytest

# What engines say where they may build nothing here, or reach no registry for the base image.
CANNOT = re.compile(
    r"Temporary failure in name resolution|no such host|dial tcp|i/o timeout|connection refused"
    r"|toomanyrequests|pull access denied|operation not permitted|cannot clone|newuidmap"
    r"|error creating overlay mount|short-name .* did not resolve|ResolutionError"
    r"|Could not find a version that satisfies|network is unreachable",
    re.IGNORECASE,
)


def build_flags() -> list[str]:
    """Words of `shared.pipeline.images.build`, by BASE_IMAGE, and BUILD_FLAGS of Podman."""
    flags = os.environ.get("BUILD_FLAGS", "")
    engine = ["--engine", "podman"] if flags and shutil.which("podman") else []
    if base := os.environ.get("BASE_IMAGE"):
        flags += f" --build-arg {shlex.quote(f'BASE_IMAGE={base}')}"
    return [f"--build-args={flags}", *engine]


def skip_where_nothing_can_be_built(done: subprocess.CompletedProcess) -> None:
    """Skip a test, with the reason, where the engine answers but can build or pull no image."""
    if done.returncode and (found := CANNOT.search(done.stdout + done.stderr)):
        lines = (done.stdout + done.stderr).splitlines()
        reason = next(line for line in lines if found[0] in line)
        pytest.skip(f"the engine can build no image here: {reason.strip()[:300]}")
