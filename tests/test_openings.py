"""Guards of what is opened, and of what is started: by what the files say."""

import ast

from tests.places import ROOT

# What opens a file that somebody else may have written, by its last two words, and where it may
# stand; where it needs an argument to be safe, that too.
OPENERS = {
    "Image.open": ({"shared.data.headers", "shared.tracking.sending"}, "formats"),
    "torch.load": ({"shared.networks.weight_file"}, "weights_only"),
    "np.load": (set(), "allow_pickle"),
    "pickle.load": (set(), ""),
    "pickle.loads": (set(), ""),
    "yaml.load": ({"shared.files.documents"}, ""),
    "yaml.unsafe_load": (set(), ""),
    "yaml.safe_load": (set(), ""),
    "os.system": (set(), ""),
    "os.popen": (set(), ""),
    "torch.jit.load": (set(), ""),
    "eval": (set(), ""),
    "exec": (set(), ""),
}

# Nothing that was read starts a program. What does, and why.
STARTERS = {
    "components.export.om.atc": "Ascend's compiler",
    "components.benchmark.ais_bench.tool": "Ascend's tool that times an .om",
    "components.benchmark.ais_bench.failures": "what that tool said; starts nothing",
    "shared.pipeline.after_night.notify": "the person's own command, of --notify",
    "shared.pipeline.images.build": "docker or podman, for `make images`, and git",
    "shared.pipeline.doctor.here": "torch by our own Python, which says what devices it sees",
    "shared.pipeline.nights": "TimeoutExpired alone; starts nothing",
    "shared.pipeline.preflight": "the checks of each step, by its own Python",
    "shared.pipeline.processes": "the steps themselves, by their own Python",
    "shared.pipeline.processes.guard": "the step that it guards",
    "shared.pipeline.schedules.schedule": "crontab and systemctl, of which it knows the time",
    "shared.pipeline.schedules.systemd": "loginctl",
    "shared.pipeline.ui": "MLflow's server, for `ui`",
    "shared.servers": "npu-smi, for chips and their load, and nvidia-smi",
    "shared.tracking": "git, for the commit of our own checkout",
}


FILES = [
    ROOT / "pipeline.py",
    *(ROOT / "shared").rglob("*.py"),
    *(ROOT / "components").rglob("*.py"),
]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
        path.read_text()
    )
    for path in FILES
}


def calls(module: ast.Module) -> list[tuple[str, set[str]]]:
    """Every call of a module: its name as written, and the names of its arguments."""
    return [
        (ast.unparse(node.func), {one.arg for one in node.keywords})
        for node in ast.walk(module)
        if isinstance(node, ast.Call)
    ]


def test_files_are_opened_where_their_formats_are_named():
    found = {}
    for module, content in MODULES.items():
        for called, arguments in calls(content):
            if called in OPENERS:
                places, needed = OPENERS[called]
                assert module in places, f"{module} calls {called}"
                assert not needed or needed in arguments, f"{module}: {called} without {needed}"
                found.setdefault(called, set()).add(module)
    assert {called: places for called, (places, _) in OPENERS.items() if places} == found


def test_programs_are_started_where_that_has_a_reason():
    found = {
        module
        for module, content in MODULES.items()
        for node in ast.walk(content)
        if isinstance(node, ast.Import | ast.ImportFrom)
        and "subprocess" in {getattr(node, "module", ""), *(one.name for one in node.names)}
    }
    assert found == STARTERS.keys()
