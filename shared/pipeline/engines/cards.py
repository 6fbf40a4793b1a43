"""The cards of this machine, and what gives them to a container."""

import re
from pathlib import Path
from typing import Any

from shared.device_names import DeviceName

# Of the Ascend driver: devices that all of its programs open, and its files.
ASCEND = ("/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc")
ASCEND_FILES = (
    "/usr/local/dcmi",
    "/usr/local/bin/npu-smi",
    "/usr/local/Ascend/driver/lib64",
    "/usr/local/Ascend/driver/version.info",
    "/etc/ascend_install.info",
)


def device_of(asked: DeviceName, dev: Path = Path("/dev")) -> str:
    """cpu, cuda or npu: what is asked for, or what the machine has."""
    if asked != "auto":
        return asked
    if (dev / "davinci_manager").exists():
        return "npu"
    return "cuda" if any((dev / one).exists() for one in ("nvidiactl", "dxg")) else "cpu"


def cards_for(device: str, engine: dict[str, Any], root: Path = Path("/")) -> dict[str, Any]:
    """Arguments of a container that give it all cards: `device_requests`, `mounts`, `options`.

    Args:
        device: cpu, cuda or npu.
        engine: What the engine says of itself.
        root: Of the file system that has /dev.
    """
    given: dict[str, Any] = {"device_requests": [], "mounts": [], "options": {}}
    runtimes = engine.get("Runtimes") or {}
    if device == "cuda":
        # Podman knows cards by the names of the Container Device Interface alone.
        if is_podman(engine):
            request = {"driver": "cdi", "device_ids": ["nvidia.com/gpu=all"]}
        else:
            request = {"count": -1, "capabilities": [["gpu"]]}
        given["device_requests"] = [request]
    if device == "npu":
        names = [path.name for path in (root / "dev").glob("davinci[0-9]*")]
        cards = sorted(int(name.removeprefix("davinci")) for name in names if name[7:].isdigit())
        if "ascend" in runtimes:
            given["options"] = {"runtime": "ascend"}
            given["environment"] = {"ASCEND_VISIBLE_DEVICES": ",".join(map(str, cards))}
            return given
        devices = [*(f"/dev/davinci{card}" for card in cards), *ASCEND]
        there = [one for one in devices if (root / one[1:]).exists()]
        given["options"]["devices"] = [f"{one}:{one}:rwm" for one in there]
        files = [one for one in ASCEND_FILES if (root / one[1:]).exists()]
        given["mounts"] = [{"source": one, "target": one, "read_only": True} for one in files]
        # The devices belong to a group of the driver's.
        groups = {(root / one[1:]).stat().st_gid for one in there}
        given["options"]["group_add"] = sorted(map(str, groups))
    return given


def is_podman(engine: dict[str, Any]) -> bool:
    """Whether an engine is Podman."""
    return bool(re.search("podman", str(engine.get("Components", "")), re.IGNORECASE))
