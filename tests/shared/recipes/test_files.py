"""A recipe's file of one's own: what it gives, and each fault in a sentence with its line."""

import shutil

import pytest

from pipeline import CONFIGS
from shared.pipeline.recipes import read_recipe
from shared.recipes.files import BUILT_IN, SECTIONS, built_in, recipe_name
from tests.asking import refusal

LEAST = """\
prepare: {}
train_global:
  ngf: 8
export: {}
benchmark: {}
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a recipe and returns its path, as a person in its folder gives it."""
    monkeypatch.chdir(tmp_path)

    def to_file(content: str, name: str = "own.yaml") -> str:
        (tmp_path / name).write_bytes(content.encode())
        return name

    return to_file


def test_a_file_is_a_recipe_called_after_its_stem(write):
    recipe = read_recipe(write(LEAST, "My_cats-2.yaml"), CONFIGS, ("train_global.ndf=4",))
    assert list(recipe) == ["prepare", "train_global", "export", "benchmark"]
    assert (recipe["train_global"]["ngf"], recipe["train_global"]["ndf"]) == (8, 4)
    assert recipe["benchmark"]["registered_model"] == recipe_name("x/My_cats-2.yaml") == "My_cats-2"
    two = {"train_local": "{netG: local, ngf: 32}", "train_global": "{instance_features: yes}"}
    shuffled = "".join(f"{step}: {two.get(step, '')}\n" for step in reversed(SECTIONS))
    assert list(read_recipe(write(shuffled), CONFIGS)) == list(SECTIONS) == list(CONFIGS)


def test_the_type_of_a_field_decides_what_a_value_means(write):
    lines = ["vgg_weights: 007", "crop:", "dropout: yes", "learning_rate: 1e-3", "flip: off"]
    lines += ["netD: 'pixel'", "lambda_feature_matching: 0", "start_from: 2024-13-45"]
    text = LEAST.replace("ngf: 8", "\n  ".join(lines)).replace("\n", "\r\n")
    text = text.replace("benchmark: {}", "benchmark:\r\n  batch_sizes: 1 4\r\n  runtimes: [torch]")
    recipe = read_recipe(write("\ufeff" + text), CONFIGS)
    wanted = dict(vgg_weights="007", crop="", dropout=True, learning_rate=0.001, flip=False)
    wanted |= dict(netD="pixel", start_from="2024-13-45")
    assert {name: recipe["train_global"][name] for name in wanted} == wanted
    assert recipe["benchmark"]["batch_sizes"] == [1, 4]
    assert recipe["benchmark"]["runtimes"] == ["torch"]


FAULTS = {
    # What stands in the file for "ngf: 8" on line 3, or for anything else; where; what is said.
    "empty": ("*", "# nothing\n", "", "is empty: write sections"),
    "list": ("*", "- prepare\n", 1, "a recipe has sections, but this is a list."),
    "text": ("*", "prepare\n", 1, "a recipe has sections, but this is a text."),
    "syntax": ("ngf: 8", "ngf: 8\n bad", 4, "no YAML ("),
    "colon": ("ngf: 8", "ngf 8", 3, "section train_global is a text, but holds fields."),
    "quote": ("ngf: 8", 'ngf: "8', 6, "no YAML (found unexpected end of stream)"),
    "tab": ("  ngf", "\tngf", 3, "there is a tab, with which YAML cannot be indented"),
    "control": ("8", "\x00", "", "has the character '\\x00', which no YAML may have"),
    "double section": ("export: {}", "prepare: {}", 4, "prepare was given on line 1 already"),
    "double field": ("ngf: 8", "ngf: 8\n  ngf: 8", 4, "train_global.ngf was given on line 3"),
    "anchor": ("{}", "&a {}", 1, "&a refers to another place: write the value out."),
    "alias": ("8", "*a", 3, "*a refers to another place: write the value out."),
    "merge": ("ngf: 8", "<<: {ngf: 8}", 3, "train_global.<< is a mapping"),
    "tag": ("8", "!!python/object/apply:os.getpid []", 3, "the tag tag:yaml.org,2002:python"),
    "deep": ("8", "[" * 100_000, 3, "train_global.ngf has a list in its list."),
    "two documents": ("benchmark: {}", "benchmark: {}\n---\na: 1", 7, "a second document"),
    "key": ("export: {}", "[a]: {}", 4, "a list stands where a name should."),
    "no section": ("export: {}\n", "", "", "has no section export: write `export: {}`"),
    "section": ("export", "exports", 4, "there is no section exports: did you mean export?"),
    "train": ("train_global", "train", 2, "there is no section train: did you mean train_global?"),
    "section's list": ("export: {}", "export: []", 4, "section export is a list, but holds"),
    "field": ("ngf: 8", "epoch: 8", 3, "train_global.epoch is unknown: did you mean epochs?"),
    "old": ("ngf: 8", "layout: x", 3, "train_global.layout has a new name: write memory_format."),
    "type": ("8", "many", 3, "train_global.ngf 'many': should be a valid integer"),
    "bound": ("8", "0", 3, "train_global.ngf '0': should be greater than or equal to 1."),
    "nothing": ("8", "", 3, "train_global.ngf '': is no value: give one, or leave the field out."),
    "null": ("ngf: 8", "vgg_weights: ~", 3, "train_global.vgg_weights '~': is no value"),
    "a list": ("8", "[8]", 3, "train_global.ngf ['8']: should be one value, and no list."),
    "of its step": ("ngf: 8", "size: 4x4", 3, "train_global.size '4x4': both sides should be 16"),
    "of two": (
        "ngf: 8",
        "best_by: fid",
        3,
        "train_global.best_by fid needs a network: --set train_global.fid_network=inception, or",
    ),
}


@pytest.mark.parametrize("old, new, line, said", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_one_sentence_with_file_and_line(write, old, new, line, said):
    text = new if old == "*" else LEAST.replace(old, new, 1)
    assert text != LEAST
    sentence = refusal(read_recipe, write(text), CONFIGS)
    where = f"--recipe own.yaml, line {line}: " if line else "--recipe own.yaml "
    assert sentence.startswith(where + said)


def test_a_file_that_is_no_text_or_no_file_is_refused(write, tmp_path):
    own = write(LEAST)
    (tmp_path / "latin.yaml").write_bytes("prepare: {} # größe".encode("latin-1"))
    (tmp_path / "model.yaml").write_bytes(b"x" * 2_000_000)
    (tmp_path / "folder.yaml").mkdir()
    shutil.copy(own, "own.txt")
    for recipe, said in {
        "latin.yaml": "--recipe latin.yaml is no text in UTF-8",
        "model.yaml": "--recipe model.yaml has 2.0 MB, which is no recipe",
        "folder.yaml": "--recipe folder.yaml is a folder",
        "./own.txt": "--recipe ./own.txt does not end in .yaml",
        "owm.yaml": "--recipe owm.yaml is no file: did you mean own.yaml?",
        "none/x.yaml": "--recipe none/x.yaml is no file: name a YAML file that is there.",
        "own": "--recipe 'own' is unknown: did you mean own.yaml?",
        "label2city_512": "--recipe 'label2city_512' is unknown: did you mean label2city_512p?",
    }.items():
        assert refusal(read_recipe, recipe, CONFIGS).startswith(said)


@pytest.mark.parametrize("stem", ["my cats", "größe", "-x", "a.b", "x" * 61, "_x"])
def test_a_stem_that_mlflow_or_kfp_would_not_take_is_refused(write, stem):
    sentence = refusal(read_recipe, write(LEAST, f"{stem}.yaml"), CONFIGS)
    assert f"are called {stem!r} after it" in sentence


def test_the_name_of_a_built_in_recipe_is_taken(write):
    for stem in ("demo", "Demo", "label2city-512p"):
        said = f"--recipe {stem}.yaml is called as a built-in recipe"
        assert refusal(read_recipe, write(LEAST, f"{stem}.yaml"), CONFIGS).startswith(said)
    ours = str(BUILT_IN / "demo.yaml")
    assert read_recipe(ours, CONFIGS) == read_recipe("demo", CONFIGS)
    assert set(built_in()) >= {"demo", "facades", "label2city_512p"}
