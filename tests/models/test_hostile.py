"""A folder made to harm is refused before it is opened: fast, in little memory, and none of its code runs."""

import re
import shutil
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from helpers import hostile
from poise.batch.tokens import prepare_tokenizer
from poise.errors import ModelError
from poise.recipe_sections import ModelSection
from poise.train.model import Hardware, load_model, load_tokenizer


@pytest.fixture
def model(small_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_model, tmp_path / "models" / "model"))


def open_all(folder: Path) -> Any:
    """Open tokenizer, template and weights, as training, evaluation, merging and chat do."""
    import torch

    section = ModelSection.model_validate({"model_name_or_path": str(folder)})
    prepared = prepare_tokenizer(load_tokenizer(section), None)
    return prepared, load_model(section, Hardware(torch.device("cpu"), torch.float32, autocast=False)).model


@pytest.mark.parametrize("name", hostile.HARMS)
def test_a_hostile_folder_is_refused(model: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = tmp_path / "canary"
    hostile.HARMS[name](model, canary)
    monkeypatch.syspath_prepend(str(model))  # where code that a file names would be found
    started = time.process_time()
    with pytest.raises(ModelError, match="to do: "):
        open_all(model)
    assert time.process_time() - started < 5
    assert not canary.exists()


def test_a_sound_folder_is_opened_and_keys_that_name_code_are_dropped(model: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (model / "evil.py").write_text(hostile.code(canary))
    named = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}
    hostile.change(model, "config.json", auto_map=named, _attn_implementation_internal="sdpa", use_kernels=True)
    hostile.change(model, "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", None]})
    _, loaded = open_all(model)
    assert not hasattr(loaded.config, "auto_map")
    assert not canary.exists()
    assert loaded.config.name_or_path == loaded.name_or_path == str(model)


def test_a_model_linked_within_its_folder_or_from_the_cache_of_the_hub_is_opened(model: Path) -> None:
    (model / "weights").mkdir()
    shutil.move(model / "model.safetensors", model / "weights" / "model.safetensors")
    (model / "model.safetensors").symlink_to(Path("weights") / "model.safetensors")
    open_all(model)
    cache = model.parent / "models--a--b"
    (cache / "snapshots").mkdir(parents=True)
    (cache / "blobs").mkdir()
    shutil.move(model, cache / "snapshots" / "abc")
    shutil.move(cache / "snapshots" / "abc" / "config.json", cache / "blobs" / "1234")
    (cache / "snapshots" / "abc" / "config.json").symlink_to("../../blobs/1234")
    open_all(cache / "snapshots" / "abc")


def test_an_adapter_is_loaded_without_the_modules_that_it_names(model: Path, tmp_path: Path) -> None:
    from poise.models.open import open_adapter_config

    hostile.adapter(
        model, auto_mapping={"parent_library": "evil", "base_model_class": "E"}, corda_config={"cache_file": "x"}
    )
    found = open_adapter_config(str(model))
    assert found is not None
    assert "auto_mapping" not in found
    assert found["corda_config"] is None
    assert open_adapter_config(found["base_model_name_or_path"]) is None


@pytest.mark.parametrize(
    ("config", "refused"),
    [
        ({"num_hidden_layers": 30, "vocab_size": 32_000, "hidden_size": 576}, False),
        ({"num_hidden_layers": 30, "vocab_size": 32_000, "hidden_size": 576_000}, True),
        ({"text_config": {"num_hidden_layers": 400}}, True),
        ({"n_positions": 1_000_000, "num_experts": 512, "moe_num_experts": 64}, False),
        ({"num_key_value_heads": 10**7}, True),
    ],
)
def test_a_configuration_that_asks_for_more_than_the_weights_hold_is_refused(config: Any, refused: bool) -> None:
    from poise.models.config import check_size

    shapes = {"embed": (32_000, 576), **{f"layer{index}": (576, 576) for index in range(300)}}
    try:
        check_size(config, shapes, "config.json")
        assert not refused
    except ModelError:
        assert refused


def test_no_recipe_can_switch_remote_code_on(tmp_path: Path) -> None:
    from poise.recipe import load_recipe

    (tmp_path / "sft.yaml").write_text(
        "model_name_or_path: a\ndataset_name: b\noutput_dir: c\ntrust_remote_code: true\n", encoding="utf-8"
    )
    recipe = load_recipe("sft", tmp_path / "sft.yaml", ["trust_remote_code=true"])
    assert recipe.model.trust_remote_code is False
    assert any("trust_remote_code" in str(note) for note in recipe.notes)


def test_the_files_of_a_model_are_opened_in_one_place() -> None:
    source = Path(__file__).parents[2] / "src" / "poise"
    allowed = {source / "models" / "open.py", source / "train" / "adapters.py", source / "publish" / "card" / "use.py"}
    opening = ("AutoTokenizer.from", "AutoConfig.from", "ForCausalLM.from", "PeftModel.from", "load_peft_weights")

    def callers(text: str) -> list[str]:
        files = (path for path in source.rglob("*.py") if path not in allowed)
        return [path.relative_to(source).as_posix() for path in files if text in path.read_text()]

    assert {text: found for text in opening if (found := callers(text))} == {}
    unsafe = ("pickle.load", "torch.load(", "yaml.load(", "shell=True", "trust_remote_code=True", "os.system(")
    assert {text: found for text in unsafe if (found := callers(text))} == {}
    running = re.compile(r"(?<![\w.])(?:eval|exec|__import__)\(")
    assert [path.name for path in source.rglob("*.py") if running.search(path.read_text())] == []


def test_packages_are_no_older_than_those_without_known_holes() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    floors = dict(re.findall(r"^([\w-]+)>=([\d.]+)", "\n".join(project["dependencies"]), re.MULTILINE))
    for package, least in (("torch", (2, 10)), ("transformers", (5, 3)), ("jinja2", (3, 1, 6))):
        assert tuple(map(int, floors[package].split("."))) >= least
