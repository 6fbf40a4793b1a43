"""Recipes: their numbers, and those that lie over them."""

import pytest
import yaml

from pipeline import CONFIGS
from shared.errors import InputError
from shared.pipeline.recipes import read_recipe
from shared.recipes.files import BUILT_IN


def test_an_override_may_be_any_text():
    overrides = ("train_global.vgg_weights=%h/vgg: 19.pth", "train_global.learning_rate=1e-3")
    values = read_recipe("demo", CONFIGS, overrides)["train_global"]
    assert (values["vgg_weights"], values["learning_rate"]) == ("%h/vgg: 19.pth", 1e-3)
    no_day = read_recipe("demo", CONFIGS, ("train_global.vgg_weights=2024-13-45",))
    assert no_day["train_global"]["vgg_weights"] == "2024-13-45"


def test_overrides_reach_the_step_and_are_checked():
    overrides = ("benchmark.batch_sizes=[2]", "train_global.flip=false")
    values = read_recipe("demo", CONFIGS, overrides)
    assert values["benchmark"]["batch_sizes"] == [2] and values["train_global"]["flip"] is False
    with pytest.raises(
        InputError, match="^--set train_global.ngf=0: should be greater than or equal to 1"
    ):
        read_recipe("demo", CONFIGS, ("train_global.ngf=0",))


def test_an_override_by_an_old_name_is_told_the_new_one():
    with pytest.raises(InputError) as refused:
        read_recipe("demo", CONFIGS, ("train_global.layout=nhwc",))
    assert str(refused.value) == (
        "--set train_global.layout has a new name: write train_global.memory_format."
    )


def test_recipes_name_steps_and_fields_that_exist_and_start_with_their_command():
    recipes = {path.stem for path in BUILT_IN.glob("*.yaml")}
    of_the_seed = {"label2city_512p", "label2city_1024p"}
    assert {"demo", *of_the_seed, *(f"{name}_feat" for name in of_the_seed)} <= recipes
    for name in recipes:
        text = (BUILT_IN / f"{name}.yaml").read_text()
        assert text.startswith("#") and f"python pipeline.py submit --recipe {name}" in text
        recipe = yaml.safe_load(text)
        assert list(recipe) == [step for step in CONFIGS if step in recipe], "order of the graph"
        for step, values in recipe.items():
            assert set(values) <= set(CONFIGS[step].model_fields)


def test_seed_recipes_have_the_seeds_numbers():
    """SEED_FACTS B.2 and NVIDIA's scripts/train_*.sh."""
    base = dict(epochs=100, epochs_decay=100, batch_size=1, learning_rate=2e-4, beta1=0.5)
    base |= dict(ngf=64, n_downsample_global=4, n_blocks_global=9, num_D=2, ndf=64, n_layers_D=3)
    base |= dict(lambda_feature_matching=10, lambda_vgg=10)
    fine = base | dict(epochs=50, epochs_decay=50, epochs_fix_global=10)
    fine |= dict(netG="local", ngf=32, num_D=3, n_blocks_local=3)
    features = dict(instance_features=True, feat_num=3, nef=16, n_downsample_E=4)
    for name, two_stages, with_features in (
        ("label2city_512p", False, False),
        ("label2city_1024p", True, False),
        ("label2city_512p_feat", False, True),
        ("label2city_1024p_feat", True, True),
    ):
        recipe = read_recipe(name, CONFIGS, ("train_global.vgg_weights=x",))
        assert ("train_local" in recipe, "cluster" in recipe) == (two_stages, with_features)
        wanted = base | (features if with_features else {"instance_features": False})
        assert {key: recipe["train_global"][key] for key in wanted} == wanted
        assert recipe["prepare"]["labels"] == "cityscapes"
        if two_stages:
            assert {key: recipe["train_local"][key] for key in fine} == fine
            assert (recipe["prepare"]["size"], recipe["train_global"]["size"]) == (
                "1024x2048",
                "512x1024",
            )
        else:
            assert recipe["prepare"]["size"] == "512x1024"
        if with_features:
            assert recipe["cluster"]["n_clusters"] == 10 and recipe["cluster"]["min_area"] == 1 / 64


def test_facades_recipes_have_pix2pix_defaults():
    """SEED_FACTS B.5 and C.2: junyanz's options for --model pix2pix on facades, and the fifth
    seed's ResNet."""

    for name, netG in (("facades", "unet_256"), ("facades_resnet9", "resnet_9blocks")):
        recipe = read_recipe(name, CONFIGS)
        assert list(recipe) == ["prepare", "train_global", "export", "benchmark"]
        prepare = dict(size="keep", num_labels=0, input_nc=3, instances="none", direction="BtoA")
        assert {key: recipe["prepare"][key] for key in prepare} == prepare
        wanted = dict(
            netG=netG, netD="n_layers", n_layers_D=3, ngf=64, ndf=64, norm="batch", dropout=True
        )
        wanted |= dict(
            gan_mode="vanilla",
            lambda_L1=100,
            lambda_feature_matching=0,
            pool_size=0,
            size="286x286",
            crop="256x256",
        )
        wanted |= dict(
            batch_size=1,
            learning_rate=2e-4,
            beta1=0.5,
            epochs=100,
            epochs_decay=100,
            lr_policy="linear",
        )
        wanted |= dict(init_type="normal", init_gain=0.02, flip=True)
        assert {key: recipe["train_global"][key] for key in wanted} == wanted


def test_steps_that_read_one_model_read_the_same_weights_of_it():
    def chosen(recipe, *overrides):
        recipe = read_recipe(recipe, CONFIGS, overrides)
        return [recipe[step].get("weights") for step in ("cluster", "export", "benchmark")]

    demo = ("export.weights=best", "benchmark.weights=best")
    assert chosen("demo") == ["latest"] * 3
    assert chosen("demo", *demo) == ["latest", "best", "best"]
    for overrides in (demo[:1], demo[1:]):
        with pytest.raises(InputError) as refused:
            chosen("demo", *overrides)
        assert str(refused.value).endswith(
            ": these steps read one model: say --set export.weights=best benchmark.weights=best."
        )
    with pytest.raises(InputError) as refused:
        chosen("demo", "cluster.weights=40", *demo)
    assert str(refused.value) == (
        "cluster.weights 40: train_local starts from the latest weights of train_global, and takes "
        "features of these: leave it out."
    )


def test_a_recipe_of_one_stage_clusters_what_it_exports(tmp_path):
    sections = "prepare: {}\ntrain_global:\n  instance_features: true\ncluster:\n  weights: 040\n"
    recipe = tmp_path / "styled.yaml"
    recipe.write_text(sections + "export: {}\nbenchmark: {}\n")
    with pytest.raises(InputError, match="cluster.weights 40, export.weights latest, benchmark"):
        read_recipe(str(recipe), CONFIGS)
    both = ("export.weights=40", "benchmark.weights=40")
    assert read_recipe(str(recipe), CONFIGS, both)["cluster"]["weights"] == "40"
