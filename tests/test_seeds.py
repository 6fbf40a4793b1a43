"""docs/seeds.md: every command of ours runs as it stands there, at tiny sizes, and leaves what its
row promises; every option that the five systems document has a row."""

import importlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from pipeline import CONFIGS
from shared.contracts.clusters import ClusterTable
from shared.contracts.dataset import DatasetManifest
from shared.contracts.measured import BenchmarkReport
from shared.contracts.model import ModelCard
from shared.data.images import write_picture
from shared.pipeline.recipes import read_recipe
from tests.calling import call, recording
from tests.places import ROOT, STAND_INS, put_atc

PAGE = ROOT / "docs" / "seeds.md"
DOCUMENTED = ROOT.parent / "shared" / "seeds"  # the five systems' own words; not everywhere
HEAD = "| theirs | ours | what comes out |"
TRAIN, TEST = 4, 2  # pairs
HEIGHT, WIDTH = 64, 128  # of the data sets; half of it in the first stage

# What is appended to a command: sizes, a device that is here, and no download of VGG's weights.
TINY_NETWORKS = "--ndf 2 --n-layers-D 2 --workers 0 --lambda-vgg 0 --device cpu --precision fp32"
TINY_HD = "--n-downsample-global 2 --n-blocks-global 1 --n-blocks-local 1 --nef 2"
TINY_HD += " --n-downsample-E 2"
TINY_RECIPE = dict(size="32x64", ngf=4, ndf=2, n_layers_D=2, workers=0, lambda_vgg=0)
TINY_RECIPE |= dict(epochs=1, epochs_decay=1, device="cpu", precision="fp32")
TINY_RECIPE_HD = dict(n_downsample_global=2, n_blocks_global=1, nef=2, n_downsample_E=2)
TINY_BENCHMARK = ["benchmark.rounds=1", "benchmark.warmup=1", "benchmark.batch_sizes=1"]


@dataclass(frozen=True)
class Row:
    """A line of a table of commands."""

    system: str  # the section
    theirs: str
    commands: tuple[str, ...]

    @property
    def several_devices(self) -> bool:
        return "--devices 8" in " ".join(self.commands)

    @property
    def whole_pipeline(self) -> bool:
        return any(command.startswith("python pipeline.py") for command in self.commands)


def tables(text: str, head: str) -> list[list[str]]:
    """The cells of all tables below such a head."""
    found = []
    for part in text.split(head)[1:]:
        lines = part.split("\n\n")[0].splitlines()[2:]
        found += [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return found


def rows() -> list[Row]:
    found = []
    for section in PAGE.read_text().split("\n## ")[1:]:
        for theirs, ours, *_ in tables(section, HEAD):
            commands = re.findall("`(python [^`]*)`", ours)
            found.append(Row(section.partition("\n")[0], theirs, tuple(commands)))
    return found


SYSTEMS = list(dict.fromkeys(row.system for row in rows()))


# As they stand there


def test_the_page_has_a_row_for_every_script():
    theirs = "\n".join(row.theirs for row in rows())
    scripts = """
        datasets_deal.py train_performance_1p.sh train_performance_8p.sh train_full_8p.sh
        train_full_1p.sh train_eval_1p.sh pix2pixhd_preprocess.py pix2pixhd_pth2onnx.py atc
        ais_bench pix2pixhd_postprocess.py test_1024p.sh create_pix2pixhd_dataset.py
        train_512p.sh distribute_train_512p.sh train_512p_feat.sh distribute_train_512p_feat.sh
        train_1024p.sh train_1024p_feat.sh eval_512p.sh eval_512p_feat.sh eval_1024p.sh
        eval_1024p_feat.sh precompute_feature_maps.py encode_features.py eval.py export.py
        run_model.py main.py launch.sh""".split()
    assert [script for script in scripts if script not in theirs] == []
    assert len(SYSTEMS) == 5 and sum(len(row.commands) for row in rows()) >= 40


def test_every_command_is_taken_as_it_stands(monkeypatch, tmp_path):
    """Its flags exist and their values are within bounds; nothing is started."""
    monkeypatch.chdir(tmp_path)
    asked = []
    commands = [shlex.split(command) for row in rows() for command in row.commands]
    for words in commands:
        if words[1] == "pipeline.py":
            changes = tuple(words[words.index("--set") + 1 :]) if "--set" in words else ()
            read_recipe(words[words.index("--recipe") + 1], CONFIGS, changes)
            asked.append(words)
            continue
        module = importlib.import_module(f"{words[2]}.__main__")
        monkeypatch.setattr(module, "command_line", recording(asked))
        module.main(words[3:])
    assert len(asked) == len(commands)


HELPS = {
    "prepare": [[]],
    "train": [[], ["adopt"]],
    "cluster": [[], ["exchange", "maps"]],
    "export": [[], ["synthesise"], ["offline", "inputs"], ["offline", "pictures"]],
    "benchmark": [[], ["ais_bench", "pure"], ["ais_bench", "inputs"]],
}


def test_every_flag_of_ours_exists(capsys):
    for step, commands in HELPS.items():
        main = importlib.import_module(f"components.{step}.__main__").main
        for words in commands:
            with pytest.raises(SystemExit, match="^0$"):
                main([*words, "--help"])
    known = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
    named = [cell for _, cell in tables(PAGE.read_text(), " | ours |\n|---|---|\n")]
    flags = {flag for cell in named for flag in re.findall(r"--[\w-]+", cell)}
    assert len(flags) > 60 and flags - known == set()


@pytest.mark.skipif(not DOCUMENTED.is_dir(), reason="the five systems' own pages are not here")
def test_every_option_and_script_that_the_five_systems_document_has_a_row():
    page, missing = PAGE.read_text(), []
    for file in sorted(DOCUMENTED.glob("*.txt")):
        text = re.sub(r"https?://\S+|</?\w[^>]*>|git .*", " ", file.read_text())
        found = re.findall(r"(?<![\w-])--([a-z]\w+)(?=[ =`\n])", text)  # --data_path
        found += re.findall(r"^([a-z]\w+): \S+$", text, re.MULTILINE)  # label_nc: 35
        found += re.findall(r"(?:bash|python3?) (?:\S*/)?(\w+\.(?:sh|py))", text)
        found += re.findall(r"^export (\w+)=", text, re.MULTILINE)
        for name in dict.fromkeys(found):
            missing += [] if re.search(rf"\b{name}\b", page) else [f"{file.name}: {name}"]
    assert missing == []


# Run at tiny sizes


def shrunk(words: list[str]) -> list[str]:
    """What is appended to a command, the last of equal flags being the one that counts."""
    given = " ".join(words)
    match words[2:]:
        case ["components.prepare", *_]:
            return ["--size", "32x32" if "FACADES" in given else f"{HEIGHT}x{WIDTH}"]
        case ["components.train", *_]:
            changes = TINY_NETWORKS.split()
            if "n_layers" in given:  # pix2pix
                changes += "--ngf 2 --size 32x32 --crop 32x32 --batch-size 2".split()
            elif "local" in given:
                changes += f"{TINY_HD} --ngf 2".split()
            else:
                changes += f"{TINY_HD} --ngf 4 --size {HEIGHT // 2}x{WIDTH // 2}".split()
            if "--performance-run" in given:
                changes += ["--performance-run", "1"]
            else:  # as many epochs of each kind as are needed to see them
                decay = 0 if "--epochs-decay 0" in given else 1
                changes += f"--epochs 1 --epochs-decay {decay}".split()
                changes += ["--epochs-fix-global", "1"] if "--epochs-fix-global" in given else []
            return changes + (["--devices", "2"] if "--devices 8" in given else [])
        case ["components.export", "synthesise", *_]:
            small = ["--size", f"{HEIGHT // 2}x{WIDTH // 2}"] if "--size" in given else []
            return ["--device", "cpu", *small]
        case ["components.export", "offline", *_]:
            return []
        case ["components.export", *_]:
            return ["--size", f"{HEIGHT}x{WIDTH}", "--parity-samples", "1"]
        case ["components.cluster", *_] if "exchange" not in given:
            return ["--device", "cpu"]
        case ["components.benchmark", "ais_bench", *_]:
            return []
        case ["components.benchmark", *_]:
            return "--rounds 1 --warmup 1 --device cpu --precisions fp32".split()
    return []


def shrunk_recipe(words: list[str]) -> list[str]:
    """The same of a pipeline, by its numbers."""
    recipe = words[words.index("--recipe") + 1]
    of_global = dict(TINY_RECIPE)
    if recipe.startswith("facades"):
        of_global |= dict(size="32x32", crop="32x32", ngf=2)
        changes = {"prepare.size": "32x32"}
    else:
        of_global |= TINY_RECIPE_HD
        changes = {"prepare.size": f"{HEIGHT}x{WIDTH}"}
        of_local = TINY_RECIPE | TINY_RECIPE_HD | dict(size="", ngf=2, n_blocks_local=1)
        of_local |= dict(epochs_fix_global=1)
        changes |= {f"train_local.{name}": value for name, value in of_local.items()}
    changes |= {f"train_global.{name}": value for name, value in of_global.items()}
    devices = [word.split("=")[0] for word in words if word.endswith("devices=8")]
    changes |= dict.fromkeys(devices, 2)
    return [*(f"{name}={value}" for name, value in changes.items()), *TINY_BENCHMARK]


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A folder with raw data as the page names them, on a machine with CANN's stand-ins."""
    root = tmp_path_factory.mktemp("seeds")
    prepare = importlib.import_module("components.prepare.__main__").demo
    prepare(root / "DATASETS", train=TRAIN, test=TEST, size=f"{HEIGHT}x{WIDTH}")
    for split, count in (("train", TRAIN), ("test", TEST)):
        for number in range(count):
            rng = np.random.default_rng(number)
            picture = rng.integers(0, 256, (3, 4, 8), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
            write_picture(root / "FACADES" / split / f"{number + 1}.png", picture)
    atc = put_atc(root / "bin")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("PATH", f"{atc.parent}:/usr/bin:/bin")
        patch.setenv("HOME", str(root))  # for CANN's logs
        patch.setenv("PYTHONPATH", f"{STAND_INS}:{ROOT}")
        yield root


def run(command: str, capsys) -> str:
    """Run a command at tiny sizes in the folder of the raw data; what it printed."""
    words = shlex.split(command)
    if words[1] == "pipeline.py":
        words += [] if "--set" in words else ["--set"]
        done = call(*words[2:], *shrunk_recipe(words), cwd=Path.cwd())
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout
    words += shrunk(words)
    if "--devices" in words and words[-1] == "2":
        done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout
    capsys.readouterr()
    try:
        importlib.import_module(f"{words[2]}.__main__").main(words[3:])
    except SystemExit as end:
        assert end.code == 0, (command, capsys.readouterr().err)
    return capsys.readouterr().out


def value_of(words: list[str], flag: str) -> Path:
    return Path(words[words.index(flag) + 1])


def check(command: str, printed: str) -> None:
    """What the command has left is what its row promises."""
    words = shlex.split(command)
    match words[1:]:
        case ["pipeline.py", *_]:
            runs = sorted(Path("runs").glob("*/run.json"), key=lambda path: path.stat().st_mtime)
            assert (runs[-1].parent / "benchmark" / "report" / "report.html").is_file(), printed
            assert (runs[-1].parent / "export" / "exported" / "generator.onnx").is_file()
        case ["-m", "components.prepare", *_]:
            manifest = DatasetManifest.read(value_of(words, "--dataset"))
            wanted = 0 if "--test-only" in words else TRAIN
            assert (len(manifest.train), len(manifest.test)) == (wanted, TEST)
        case ["-m", "components.train", *_] if "--performance-run" in words:
            found = json.loads(printed.splitlines()[-1])
            assert found["world_size"] == (2 if "--devices 8" in command else 1)
            assert found["images_per_second"] > 0 and found["step_ms_p50"] > 0
            assert found["images_per_second_without_loading"] > 0 and found["peak_memory_mb"] > 0
        case ["-m", "components.train", *_]:
            model = value_of(words, "--model")
            networks = "GDE" if "--instance-features" in words else "GD"
            assert all((model / f"latest_net_{one}.pth").is_file() for one in networks)
            if "--clusters" not in words:  # stored features are of training pairs alone
                metrics = {name.rpartition("/")[2] for name in ModelCard.read(model).metrics}
                assert {"psnr_db", "ssim", "L1"} <= metrics
        case _:
            check_of_files(words, printed)


def check_of_files(words: list[str], printed: str) -> None:
    """The same of commands that leave pictures or files."""
    match words[2:]:
        case ["components.cluster", "exchange", *_]:
            out = value_of(words, "--out") / "train_feat"
            assert len(list(out.glob("*.png"))) == TRAIN
        case ["components.cluster", *_]:
            clusters = value_of(words, "--clusters")
            assert ClusterTable.read(clusters).labels
            if "--reference-files" in words:
                assert {"features.npy", "features_clustered_010.npy"} <= names_in(clusters)
        case ["components.export", "synthesise", *_]:
            assert len(list(value_of(words, "--out").glob("*.png"))) == TEST
        case ["components.export", "offline", "inputs", *_]:
            files = list(value_of(words, "--out").glob("*.bin"))
            sizes = [file.stat().st_size for file in files]
            assert sizes == [36 * HEIGHT * WIDTH * 4] * TEST
        case ["components.export", "offline", "pictures", *_]:
            assert len(list(value_of(words, "--out").glob("*.png"))) == TEST
        case ["components.export", *_]:
            exported = value_of(words, "--exported")
            graph = onnx.load(exported / "generator.onnx", load_external_data=False).graph
            assert [one.name for one in graph.input] == ["input_concat"]
            assert [one.name for one in graph.output] == ["fake_image"]
            if "om" in words:
                wanted = {f"generator_bs{number}.om" for number in (1, 4, 8)}
                assert wanted <= names_in(exported)
        case ["components.benchmark", "ais_bench", *_]:
            found = json.loads(printed.splitlines()[-1])
            assert found["device_images_per_second"] > 0 and found["images_per_second"] > 0
            if "inputs" in words:
                assert len(list((value_of(words, "--out") / "outputs").glob("*.bin"))) == TEST
        case ["components.benchmark", *_]:
            report = BenchmarkReport.read(value_of(words, "--report"))
            assert {"torch", "onnxruntime"} <= {row.runtime for row in report.speed}
            assert report.parity
        case _:
            raise AssertionError(f"nothing is known of {words}")


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


CHEAP = SYSTEMS[:2]  # two systems that share their weights: all kinds of commands but clusters


@pytest.fixture(scope="module")
def one_device(machine):
    """Runs the rows of a system that need neither several devices nor a pipeline, once."""
    done = {}

    def run_rows(system: str, capsys) -> None:
        if system in done:
            return
        done[system] = True
        for row in rows():
            if row.system != system or row.several_devices or row.whole_pipeline:
                continue
            for command in row.commands:
                adopt_foreign(command)
                check(command, run(command, capsys))

    return run_rows


def adopt_foreign(command: str) -> None:
    """Before the first command that reads it: a folder of theirs with weights alone."""
    theirs, ours = Path("checkpoints/label2city_1024p"), Path("runs/label2city_1024p")
    if str(theirs) in command and not theirs.exists():
        theirs.mkdir(parents=True)
        shutil.copy(ours / "latest_net_G.pth", theirs)


def test_pix2pixHD_of_pytorch_on_ascend_trains_and_is_deployed(one_device, capsys):
    """Training, pictures, ONNX, OM and ais_bench: the weights of one system go on in the other."""
    for system in CHEAP:
        one_device(system, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS[2:])
def test_the_other_systems_rows_on_one_device(system, one_device, capsys):
    one_device(system, capsys)


@pytest.mark.slow
@pytest.mark.parametrize(
    "row", [row for row in rows() if row.several_devices], ids=lambda row: row.theirs[:50]
)
def test_eight_cards_as_two_processes(row, machine, one_device, capsys):
    one_device(row.system, capsys)  # for the data set
    for command in row.commands:
        check(command, run(command, capsys))


@pytest.mark.slow
@pytest.mark.parametrize(
    "row", [row for row in rows() if row.whole_pipeline], ids=lambda row: row.system[:20]
)
def test_a_whole_system_in_one_command(row, machine, capsys):
    check(row.commands[0], run(row.commands[0], capsys))
