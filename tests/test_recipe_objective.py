"""Which loss a recipe means: loss_type alone, in a list with weights, and what is wrong with either."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.batch.weighted import WeightedSum
from poise.errors import RecipeError
from poise.names import names_in
from poise.objectives.dpo import DPO
from poise.recipe import Recipe, load_recipe

MINIMAL = "model_name_or_path: tiny\ndataset_name: rows.jsonl\n"
MPO = MINIMAL + "loss_type: [sigmoid, bco_pair, sft]\nloss_weights: [0.8, 0.2, 1.0]\n"
TRL_LOSS_TYPES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
)  # fmt: skip


def recipe_of(tmp_path: Path, text: str, *overrides: str, verb: str = "dpo") -> Recipe:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(verb, path, overrides)


def error_of(tmp_path: Path, text: str, *overrides: str, verb: str = "dpo") -> str:
    with pytest.raises(RecipeError) as caught:
        recipe_of(tmp_path, text, *overrides, verb=verb)
    return str(caught.value)


def notes(recipe: Recipe) -> dict[str, str]:
    return {note.key: note.why for note in recipe.notes}


@pytest.mark.parametrize(
    ("verb", "said", "means"),
    [
        ("dpo", "sigmoid", "dpo"), ("dpo", "dpo", "dpo"), ("dpo", "[orpo]", "orpo"), ("dpo", "sft", "nll"),
        ("dpo", "apo_zero", "apo_zero"), ("cpo", "sigmoid", "cpo"), ("cpo", "simpo", "simpo"),
        ("simpo", "sigmoid", "simpo"), ("ipo", "ipo", "ipo"), ("orpo", "orpo", "orpo"), ("sft", "nll", "sft"),
        ("kto", "kto", "kto"), ("kto", "apo_zero_unpaired", "apo_zero_unpaired"), ("dpo", "null", "dpo"),
    ],
)  # fmt: skip
def test_loss_type_names_the_objective(tmp_path: Path, verb: str, said: str, means: str) -> None:
    assert recipe_of(tmp_path, MINIMAL + f"loss_type: {said}\n", verb=verb).verb == means
    assert recipe_of(tmp_path, MINIMAL, f"loss_type={said}", verb=verb).verb == means


@pytest.mark.parametrize("loss_type", TRL_LOSS_TYPES)
def test_every_loss_type_of_trls_dpo_is_here(tmp_path: Path, loss_type: str) -> None:
    recipe = recipe_of(tmp_path, MINIMAL + f"loss_type: {loss_type}\n")
    assert recipe.verb == {"sigmoid": "dpo", "sft": "nll"}.get(loss_type, loss_type)
    if loss_type != "sigmoid":
        assert notes(recipe)["loss_type"] == f"the objective is {recipe.verb}"


def test_trl_lists_no_loss_type_that_is_not_tested() -> None:
    import inspect
    import re

    from trl import DPOTrainer

    source = inspect.getsource(DPOTrainer._compute_loss)
    assert set(re.findall(r'loss_type == "(\w+)"', source)) == set(TRL_LOSS_TYPES)


def test_simpo_under_cpo_says_what_trls_cpo_would_add(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, MINIMAL + "loss_type: simpo\n", verb="cpo")
    assert "likelihood term unless cpo_alpha" in notes(recipe)["loss_type"]
    assert recipe.objective.model_dump()["cpo_alpha"] == 0
    assert recipe_of(tmp_path, MINIMAL + "loss_type: simpo\ncpo_alpha: 1\n", verb="cpo").objective.cpo_alpha == 1  # type: ignore[attr-defined]


# weighted sums


def test_a_list_of_losses_is_their_weighted_sum(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, MPO)
    assert isinstance(recipe.objective, WeightedSum)
    assert (recipe.verb, recipe.objective.loss_weights) == ("dpo", [0.8, 0.2, 1.0])
    shown = {key: (section, value, origin) for section, key, value, origin in recipe.describe()}
    assert shown["loss_type"] == ("objective", ["sigmoid", "bco_pair", "sft"], "mine.yaml:3")
    assert shown["loss_weights"] == ("objective", [0.8, 0.2, 1.0], "mine.yaml:4")
    assert shown["beta"] == ("objective", 0.1, "default of sigmoid (0.01 with bco_pair alone)")
    assert shown["learning_rate"][1] == 5e-7
    assert not recipe.notes


@pytest.mark.parametrize("overrides", [(), ("use_weighting=true", "ld_alpha=0.5"), ("sync_ref_model=true",)])
def test_the_resolved_recipe_of_a_sum_loads_again(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    recipe = recipe_of(tmp_path, MPO, *overrides)
    again = recipe_of(tmp_path, recipe.resolved_yaml(), verb=recipe.verb)
    assert again.objective == recipe.objective
    assert again.sections() == recipe.sections()


def test_the_command_line_names_lists_too(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, MINIMAL, "loss_type=sigmoid,sft", "loss_weights=1,0.5", verb="dpo")
    assert (recipe.objective.loss_type, recipe.objective.loss_weights) == (["sigmoid", "sft"], [1, 0.5])  # type: ignore[attr-defined]
    assert recipe_of(tmp_path, MINIMAL, "loss_type=sigmoid,sft").objective.loss_weights == [1, 1]  # type: ignore[attr-defined]
    assert recipe_of(tmp_path, MINIMAL, "loss_type=[sigmoid, sft]").objective.loss_type == ["sigmoid", "sft"]  # type: ignore[attr-defined]


def test_a_single_loss_with_a_weight_is_a_sum_of_one(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, MINIMAL + "loss_type: [sigmoid]\nloss_weights: [0.5]\n")
    assert isinstance(recipe.objective, WeightedSum)
    assert recipe_of(tmp_path, recipe.resolved_yaml()).objective == recipe.objective
    assert isinstance(recipe_of(tmp_path, MINIMAL + "loss_type: [sigmoid]\n").objective, DPO)


def test_a_single_loss_on_the_command_line_replaces_a_list_and_its_weights(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, MPO, "loss_type=ipo")
    assert recipe.verb == "ipo"
    assert notes(recipe)["loss_weights"] == "loss_type names a single loss (command line)"


@pytest.mark.parametrize("verb", ["cpo", "orpo", "ipo"])
def test_a_sum_keeps_the_command(tmp_path: Path, verb: str) -> None:
    recipe = recipe_of(tmp_path, MINIMAL, f"loss_type={verb if verb != 'cpo' else 'sigmoid'},sft", verb=verb)
    assert recipe.verb == verb
    assert recipe.objective.parts[0][1].__name__.lower() == verb  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("lines", "place", "says"),
    [
        ("loss_type: [sigmoid, sft]\nloss_weights: [1]", "mine.yaml:4:15", "1 weights for 2 losses"),
        ("loss_type: [sigmoid, sigmod]", "mine.yaml:3:22", "no loss type 'sigmod' for dpo; did you mean 'sigmoid'?"),
        ("loss_type: [sigmoid, 7]", "mine.yaml:3:22", "no loss type 7 for dpo"),
        ("loss_weights: [1, 2]", "mine.yaml:3:1", "loss_weights weighs the losses of a list"),
        ("loss_type: sigmoid\nloss_weights: [1]", "mine.yaml:4:1", "loss_weights weighs the losses of a list"),
        ("loss_type: [sigmoid, sft]\nloss_weights: [1, -1]", "mine.yaml:4:19", "must be at least 0, got -1"),
        ("loss_type: [sigmoid, sft]\nloss_weights: [1, true]", "mine.yaml:4:19", "expected a number, got true"),
        ("loss_type: [sigmoid, sft]\nloss_weights: [1, .inf]", "mine.yaml:4:15", "expected a finite number"),
        ("loss_type: [sigmoid, sft]\nloss_weights: [0, 0]", "mine.yaml:4:15", "all weights are 0"),
        ("loss_type: [sigmoid, sft]\nloss_weights: 1", "mine.yaml:4:15", "expected a list"),
        ("loss_type: [sigmoid, cpt]", "mine.yaml:3:22", "cpt counts its loss by tokens, dpo by pairs"),
        ("loss_type: [sigmoid, kto]", "mine.yaml:3:22", "kto counts its loss by answers, dpo by pairs"),
        ("loss_type: [sigmoid, dpo]", "mine.yaml:3:22", "dpo is named twice"),
        ("loss_type: [sigmoid, exo_pair]\nlabel_smoothing: 0", "mine.yaml:4:18", "must be above 0, got 0"),
        ("loss_type: [aot, sft]\nuse_weighting: true", "mine.yaml:4:1", "'use_weighting' belongs to dpo"),
        ("loss_type: [bco_pair]\nf_divergence_type: forward_kl", "mine.yaml:4:1", "bco_pair does not have it"),
        ("loss_type: exo_pair\nlabel_smoothing: 0", "mine.yaml:4:18", "must be above 0, got 0"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_loss_is_told_at_its_place(tmp_path: Path, lines: str, place: str, says: str) -> None:
    error = error_of(tmp_path, MINIMAL + lines + "\n")
    assert "has 1 problem:" in error
    assert f"{place}\n" in error
    assert says in error


def test_another_command_than_the_loss_is_an_error_where_the_command_is_a_loss_itself(tmp_path: Path) -> None:
    error = error_of(tmp_path, MINIMAL + "loss_type: sigmoid\n", verb="ipo")
    assert "loss_type names sigmoid, and the command is ipo" in error
    assert "start `poise dpo`" in error


def test_the_reference_free_hinge_of_cpo_is_not_the_hinge_with_a_reference(tmp_path: Path) -> None:
    assert "no loss type 'hinge' for cpo" in error_of(tmp_path, MINIMAL + "loss_type: hinge\n", verb="cpo")


# keys that need one another


def test_gamma_beta_ratio_is_read_as_the_simpo_authors_mean_it(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, MINIMAL + "beta: 2.5\ngamma_beta_ratio: 0.4\n", verb="simpo")
    assert recipe.objective.simpo_gamma == pytest.approx(1.0)  # type: ignore[attr-defined]
    assert recipe.origins["simpo_gamma"].text == "gamma_beta_ratio 0.4 times beta 2.5 (mine.yaml:4)"
    assert recipe_of(tmp_path, MINIMAL, "gamma_beta_ratio=0.25", verb="simpo").objective.simpo_gamma == 0.5  # type: ignore[attr-defined]
    again = recipe_of(tmp_path, recipe.resolved_yaml(), verb="simpo")
    assert again.objective == recipe.objective


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("gamma_beta_ratio: 0.4\nsimpo_gamma: 1", "two spellings of one margin"),
        ("gamma_beta_ratio: wide", "expected a number, got 'wide'"),
        ("gamma_beta_ratio: -1", "must be at least 0, got -2"),
        ("gamma_beta_ratio: 0.4\nbeta: x", "expected a number, got 'x'"),
    ],
)
def test_a_ratio_that_cannot_be_read_is_told(tmp_path: Path, lines: str, says: str) -> None:
    error = error_of(tmp_path, MINIMAL + lines + "\n", verb="simpo")
    assert "has 1 problem:" in error
    assert says in error


def test_the_ratio_is_unknown_where_there_is_no_margin(tmp_path: Path) -> None:
    assert "unknown key 'gamma_beta_ratio'" in error_of(tmp_path, MINIMAL + "gamma_beta_ratio: 1\n")


def test_keys_that_do_not_act_are_noted_and_not_shown(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, MINIMAL + "ref_model_mixup_alpha: 0.5\nf_alpha_divergence_coef: 0.3\n")
    assert notes(recipe) == {
        "ref_model_mixup_alpha": "no effect: sync_ref_model is false",
        "f_alpha_divergence_coef": "no effect: f_divergence_type is not alpha_divergence",
    }
    assert "ref_model_sync_steps" not in {key for _, key, _, _ in recipe.describe()}
    moving = recipe_of(tmp_path, MINIMAL + "sync_ref_model: true\nreference_cache: here\n")
    assert "ref_model_sync_steps" in {key for _, key, _, _ in moving.describe()}
    assert notes(moving) == {"reference_cache": "no effect: a reference that moves is scored anew"}


def test_a_moving_reference_cannot_start_as_another_model(tmp_path: Path) -> None:
    error = error_of(tmp_path, MINIMAL + "ref_model: other\nsync_ref_model: true\n")
    assert "mine.yaml:4:17" in error
    assert "starts as the policy, not as another model" in error


def test_a_key_says_whose_it_is_without_naming_them_all(tmp_path: Path) -> None:
    error = error_of(tmp_path, MINIMAL + "ld_alpha: 0.5\n", verb="orpo")
    assert "'ld_alpha' belongs to dpo, aot, aot_unpaired, apo_down and " in error
    assert "'simpo_gamma' belongs to simpo; orpo" in error_of(tmp_path, MINIMAL + "simpo_gamma: 1\n", verb="orpo")


@pytest.mark.parametrize("verb", names_in("poise.objectives"))
def test_every_objective_resolves_with_its_defaults_and_round_trips(tmp_path: Path, verb: str) -> None:
    recipe = recipe_of(tmp_path, MINIMAL, verb=verb)
    assert recipe.verb == verb
    assert recipe.objective == type(recipe.objective)()
    again = recipe_of(tmp_path, recipe.resolved_yaml(), verb=verb)
    assert again.sections() == recipe.sections()


@pytest.mark.parametrize(
    ("path", "verb"),
    [
        ("zephyr/dpo/config_full.yaml", "dpo"), ("mine/apo_zero/lora.yaml", "apo_zero"), ("apo-zero.yaml", "apo_zero"),
        ("dpo/aot_unpaired.yaml", "aot_unpaired"), ("sft-then-dpo.yaml", "sft"), ("a/simpo/b.yaml", "simpo"),
    ],
)  # fmt: skip
def test_a_path_names_its_verb(path: str, verb: str) -> None:
    from poise.plan import find_verb

    assert find_verb(Path(path), None) == verb


losses = st.sampled_from([*TRL_LOSS_TYPES, "dpo", "nll", "simpo", "cpo", "kto", "cpt", "sigmod", "", "sigmoid,ipo"])
junk = st.one_of(st.none(), st.booleans(), st.floats(), st.integers(-2, 2), losses)
loss_types = st.one_of(losses, st.lists(losses, max_size=4), st.lists(junk, max_size=3), junk)
weights = st.one_of(st.lists(st.floats(0, 2), max_size=4), st.lists(junk, max_size=3), junk)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["dpo", "cpo", "orpo", "ipo", "kto", "sft"]), loss_types, weights, st.booleans())
def test_whatever_is_said_of_losses_gives_a_recipe_or_a_recipe_error(
    tmp_path_factory: pytest.TempPathFactory, verb: str, loss_type: object, loss_weights: object, weighed: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "losses.yaml"
    lines = f"loss_type: {json.dumps(loss_type)}\n" + f"loss_weights: {json.dumps(loss_weights)}\n" * weighed
    path.write_text(MINIMAL + lines)
    try:
        recipe = load_recipe(verb, path)
    except RecipeError as error:
        assert f"{path}" in str(error)
        return
    path.write_text(recipe.resolved_yaml(), encoding="utf-8")
    again = load_recipe(recipe.verb, path)
    assert again.sections() == recipe.sections()
    assert again.objective == recipe.objective
