"""Packages that stand where torch_npu is installed, and behave as it does where something lacks.

What they raise is what the wheel of 2.13.0 raises: `_check_device_conflict` of its `__init__.py`,
`_cann_package_check` of `_init/registry/registry_manager.py`, the dynamic linker's own words, and
`aclrt` errors as issues of vllm-project/vllm-ascend and Ascend/pytorch quote them.
"""

from pathlib import Path

# `torch.npu`, where torch_npu can be loaded. It registers the module before it looks at CANN.
LOADED = """
import types, torch
class npu(types.ModuleType):
    def is_available(self): {available}
    def device_count(self): return int(self.is_available())
torch.utils.rename_privateuse1_backend("npu")
torch._register_device_module("npu", npu("npu"))
"""
SEES_NONE = LOADED.format(available="return False")
SEES_ONE = LOADED.format(available="return True")
FAILS = """raise RuntimeError(
        "Initialize:build/CMakeFiles/torch_npu.dir/compiler_depend.ts:217 NPU function error: "
        "aclrtSetDevice, error code is 507899\\n[ERROR] 2026-11-30-10:00:00 (PID:7, Device:0, "
        "RankID:-1) ERR00100 PTA call acl api failed\\n[Error]: The driver reports an error. \\n"
        "        Rectify the fault based on the error information in the ascend log.")"""
DRIVER_FAILS = LOADED.format(available=FAILS)
# It counts a card, and meets it when it is first told something (`_lazy_init`).
CARD_FAILS = (
    SEES_ONE
    + f"""
def set_compile_mode(jit_compile):
    {FAILS}
torch.npu.set_compile_mode = set_compile_mode
"""
)


def lacks(library: str) -> str:
    """It is linked to a library that is nowhere."""
    said = f"{library}: cannot open shared object file: No such file or directory"
    return f"raise ImportError({said!r})"


def lacks_symbol(library: str, symbol: str) -> str:
    return f"raise ImportError('/site-packages/{library}: undefined symbol: {symbol}')"


# Of CANN's check, in a build that asks for what ours did not foresee.
CHECK_FAILS = (
    SEES_NONE
    + """
raise Exception("ASCEND_RUNTIME_PATH : /cann/runtime does not exist. Please check whether the "
    "runtime package has been installed. If exist, please run 'source set_env.sh' in the CANN "
    "installation path.\\n[ERROR] 2026-11-30-10:00:00 (PID:7, Device:-1, RankID:-1) ERR00004")
"""
)
BESIDE_CUDA = """
raise RuntimeError("Two accelerators cannot be used at the same time in PyTorch: npu and cuda. You "
    "can install the cpu version of PyTorch to use your npu device, or use the cuda device with "
    "'export TORCH_DEVICE_BACKEND_AUTOLOAD=0'.\\n[ERROR] ERR00007 PTA feature not supported")
"""


def install(folder: Path, code: str, version: str = "2.13.0") -> Path:
    """A folder for PYTHONPATH in which torch_npu is installed and runs `code` when it is loaded,
    which `import torch` does unless it is told not to."""
    package, about = folder / "torch_npu", folder / f"torch_npu-{version}.dist-info"
    for place in (package, about):
        place.mkdir(parents=True)
    (package / "__init__.py").write_text(f"{code}\ndef _autoload(): pass\n")
    (about / "METADATA").write_text(f"Metadata-Version: 2.4\nName: torch_npu\nVersion: {version}\n")
    (about / "entry_points.txt").write_text("[torch.backends]\ntorch_npu = torch_npu:_autoload\n")
    return folder


def toolkit(home: Path, version: str) -> Path:
    """A folder of CANN, as far as it tells its version."""
    (home / "x86_64-linux").mkdir(parents=True)
    (home / "x86_64-linux/ascend_toolkit_install.info").write_text(
        f"package_name=Ascend-cann-toolkit\nversion={version}\narch=x86_64\n"
    )
    return home
