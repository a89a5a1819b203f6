"""What is published is what the plan says: private, whole, without secrets, rows and pickles, or nothing at all."""

import hashlib
import json
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from helpers import hub_server
from poise.cli import poise
from poise.errors import InterruptedRun, ModelError, RecipeError, ResourceError, RunError
from poise.publish.publish import publish
from poise.publish.target import read_target

pytestmark = [
    pytest.mark.allow_hosts(["127.0.0.1"]),
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),  # huggingface_hub's own upload
]


ALWAYS, NEVER = (lambda plan: True), (lambda plan: False)
HUB = "hub:me/mine"


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def sums(tree: dict[str, bytes]) -> dict[str, tuple[int, str]]:
    return {name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in tree.items()}


def planned(result: dict[str, Any]) -> dict[str, tuple[int, str]]:
    return {file["name"]: (file["bytes"], file["sha256"]) for file in result["files"]}


def main_of(hub: Any, name: str = "me/mine") -> dict[str, bytes]:
    tree = dict(hub.repositories[name].main)
    tree.pop(".gitattributes", None)
    return tree


def test_what_arrives_is_the_plan_file_by_file_and_private(run: Path, hub: Any) -> None:
    result = publish(run, HUB, ALWAYS)
    assert sums(main_of(hub)) == planned(result)
    assert hub.repositories["me/mine"].private
    assert len(hub.repositories["me/mine"].commits) == 2
    evidence = {f"evidence/01-dpo/{name}" for name in ("manifest.json", "evidence.json", "ledger.json", "recipe.yaml")}
    assert set(planned(result)) == evidence | {
        "README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json", "chat_template.jinja",
    }  # fmt: skip
    assert b"question 1" not in b"".join(content for name, content in main_of(hub).items() if name != "README.md")


def test_without_a_yes_nothing_leaves_this_machine(run: Path, hub: Any) -> None:
    result = publish(run, HUB, NEVER)
    assert result["published"] is False
    assert hub.received == []
    outcome = CliRunner().invoke(poise, ["publish", str(run), "--to", HUB])
    assert outcome.exit_code == 0
    assert "nothing was sent; add --yes" in outcome.stderr
    assert "model.safetensors" in outcome.stderr and "private: you" in outcome.stderr
    assert hub.received == []


def test_the_command_sends_with_yes_and_public_is_said(run: Path, hub: Any) -> None:
    outcome = CliRunner().invoke(poise, ["publish", str(run), "--to", HUB, "--public", "--yes", "--json"])
    assert outcome.exit_code == 0
    assert json.loads(outcome.stdout)["visibility"].startswith("public")
    assert not hub.repositories["me/mine"].private


@pytest.mark.parametrize(("typed", "sent"), [("me/mine", True), ("y", False)])
def test_on_a_terminal_what_is_public_is_sent_when_its_name_is_typed(
    run: Path, hub: Any, typed: str, sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda self: True)
    outcome = CliRunner().invoke(poise, ["publish", str(run), "--to", HUB, "--public"], input=f"{typed}\n")
    assert outcome.exit_code == 0
    assert bool(hub.repositories) is sent


def test_a_repository_of_other_visibility_is_left_alone(run: Path, hub: Any) -> None:
    publish(run, HUB, ALWAYS, public=True)
    with pytest.raises(RunError, match="is public, and was to be private; nothing was sent"):
        publish(run, HUB, ALWAYS)
    assert len(hub.repositories["me/mine"].commits) == 2


def test_a_new_model_takes_the_place_of_all_of_the_old_one_and_nothing_is_uploaded_twice(run: Path, hub: Any) -> None:
    publish(run, HUB, ALWAYS)
    hub.repositories["me/mine"].main["pytorch_model.bin"] = b"old"
    uploaded = len(hub.uploads)
    change(run / "model" / "config.json", rope_theta=20_000.0)
    result = publish(run, HUB, ALWAYS)
    assert sums(main_of(hub)) == planned(result)
    assert len(hub.uploads) == uploaded


def test_somebody_elses_commit_in_between_is_not_overwritten(run: Path, hub: Any) -> None:
    publish(run, HUB, ALWAYS)

    def agrees_late(plan: Any) -> bool:
        real = hub_server._commit

        def other_first(hub: Any, name: str, body: bytes) -> Any:
            hub.repositories[name].commits.append({**hub.repositories[name].main, "theirs.txt": b"x"})
            hub_server._commit = real
            return real(hub, name, body)

        hub_server._commit = other_first
        return True

    change(run / "model" / "config.json", rope_theta=20_000.0)
    with pytest.raises(ResourceError, match="main is as it was before"):
        publish(run, HUB, agrees_late)
    assert "theirs.txt" in main_of(hub)


def test_to_a_folder_the_same_files_are_written_whole(run: Path, tmp_path: Path) -> None:
    result = publish(run, f"folder:{tmp_path / 'out' / 'mine'}", ALWAYS)
    out = tmp_path / "out" / "mine"
    tree = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert sums(tree) == planned(result)
    with pytest.raises(RunError, match="is not empty"):
        publish(run, f"folder:{out}", ALWAYS)
    code = re.findall(r"```python\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)[0]
    assert "from_pretrained('mine')" in code
    exec(code.replace("'mine'", repr(str(out))).replace("256", "4").replace("print", "str"), {})  # as a reader would


TOKEN = "hf_" + "A1b2C3d4" * 4
SECRETS = {
    "a token in the tokenizer": ("model/tokenizer_config.json", {"note": "sk-proj-" + "a1B2" * 8}),
    "a key by its name": ("model/config.json", {"api_key": "of-no-known-form"}),
    "a password in an address": ("model/generation_config.json", {"from": "https://me:open-sesame-now@host/base"}),
    "a private key": ("model/LICENSE", "-----BEGIN RSA PRIVATE KEY-----MIIEsecret"),
    "the environment's own": ("model/chat_template.jinja", "{# 0123456789abcdef #}"),
    "a cloud key in the weights": ("model/model.safetensors", "AKIAIOSFODNN7EXAMPLE"),
    "a token in the recipe": ("recipe.resolved.yaml", f"beta: 0.1  # {TOKEN}"),
    "a token on the command line": ("manifest.json", {"command": "poise dpo x=ghp_" + "a1B2" * 9}),
}
PLANTED = (
    "sk-proj-",
    "of-no-known-form",
    "open-sesame",
    "MIIEsecret",
    "0123456789abcdef",
    "AKIAIOSF",
    TOKEN,
    "ghp_a1B2",
)


def plant(run: Path, name: str) -> None:
    file, what = SECRETS[name]
    if file.endswith(".safetensors"):
        from safetensors.torch import load_file, save_file

        save_file(load_file(run / file), run / file, metadata={"format": "pt", "note": str(what)})
    elif isinstance(what, dict):
        change(run / file, **what)
    else:
        (run / file).write_text(what)


@pytest.mark.parametrize("name", SECRETS)
def test_not_a_byte_of_a_planted_secret_leaves(run: Path, hub: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    plant(run, name)
    if SECRETS[name][0].startswith("model/"):
        with pytest.raises(RunError, match=r"is not published: .* holds ") as refused:
            publish(run, HUB, ALWAYS)
        assert not any(secret in str(refused.value) for secret in PLANTED)
        assert hub.received == []
    else:  # what poise writes for the occasion is written without it
        publish(run, HUB, ALWAYS)
        assert main_of(hub)
    assert not any(secret.encode() in body for secret in PLANTED for body in hub.received)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("optimizer.pt", "can run code"),
        ("pytorch_model.bin", "can run code"),
        ("rows.jsonl", "holds rows"),
        ("train.parquet", "holds rows"),
        ("checkpoint/state.pkl", "can run code"),
    ],
)
def test_pickles_and_rows_in_the_folder_stop_it(run: Path, hub: Any, name: str, why: str) -> None:
    (run / "model" / name).parent.mkdir(exist_ok=True)
    (run / "model" / name).write_bytes(pickle.dumps([1]))
    with pytest.raises(RunError, match=why):
        publish(run, HUB, ALWAYS)
    assert hub.received == []


@pytest.mark.parametrize("target", [HUB, "folder"])
def test_a_file_that_changes_after_the_plan_is_not_sent(run: Path, hub: Any, tmp_path: Path, target: str) -> None:
    def agrees_late(plan: Any) -> bool:
        change(run / "model" / "config.json", rope_theta=20_000.0)
        return True

    with pytest.raises(RunError, match=r"config\.json changed since it was planned"):
        publish(run, HUB if target == HUB else f"folder:{tmp_path / 'out'}", agrees_late)
    assert hub.received == []
    assert not (tmp_path / "out").exists()


def test_a_link_out_of_the_folder_is_not_followed(run: Path, hub: Any, tmp_path: Path) -> None:
    (tmp_path / "diary").write_text("mine alone")
    (run / "model" / "LICENSE").symlink_to(tmp_path / "diary")
    with pytest.raises(ModelError, match="it is a link out of its folder"):
        publish(run, HUB, ALWAYS)
    assert hub.received == []


def test_questions_that_are_rows_of_the_data_stay_here_unless_asked_for(run: Path, hub: Any) -> None:
    lines = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    (run / "samples.jsonl").write_text("".join(json.dumps({**line, "set": "sample"}) + "\n" for line in lines))
    publish(run, HUB, ALWAYS)
    assert b"left out, for the questions are rows of the data" in main_of(hub)["README.md"]
    assert not any(b"question 1" in body for body in hub.received)
    publish(run, HUB, ALWAYS, answers=6)
    assert b"question 1" in main_of(hub)["README.md"]


def test_other_files_are_left_out_and_named(run: Path, hub: Any) -> None:
    (run / "model" / "notes.md").write_text("mine")
    (run / "model" / "modeling_evil.py").write_text("x = 1")
    result = publish(run, HUB, ALWAYS)
    assert result["left_out"] == ["modeling_evil.py", "notes.md"]
    assert not {"notes.md", "modeling_evil.py"} & set(main_of(hub))


@pytest.mark.parametrize(
    ("of_base", "of_data", "chosen", "refused"),
    [
        ("apache-2.0", "mit", None, ""),
        ("apache-2.0", "cc-by-nc-4.0", None, "allows no commercial use"),
        ("apache-2.0", "cc-by-nc-4.0", "cc-by-nc-4.0", ""),
        ("cc-by-nc-4.0", "mit", "mit", "the base is under cc-by-nc-4.0"),
        ("cc-by-nd-4.0", "mit", None, "allows no changed model"),
        ("gpl-3.0", "mit", "mit", "must be kept"),
    ],
)
def test_licences_that_contradict_are_refused(
    run: Path, tmp_path: Path, of_base: str, of_data: str, chosen: str | None, refused: str
) -> None:
    for name, licence in (("base", of_base), ("data", of_data)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "README.md").write_text(f"---\nlicense: {licence}\n---\n")
    manifest = json.loads((run / "manifest.json").read_text())
    change(run / "manifest.json", model={**manifest["model"], "name": str(tmp_path / "base")})
    change(run / "ledger.json", by_source={str(tmp_path / "data"): {"in": 1, "used": 1, "dropped": {}}})
    target = f"folder:{tmp_path / 'out'}"
    if refused:
        with pytest.raises(RunError, match=refused):
            publish(run, target, ALWAYS, licence=chosen)
    else:
        assert publish(run, target, ALWAYS, licence=chosen)["licence"] == (chosen or of_base)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_an_adapter_is_published_with_the_name_of_its_base_on_the_hub(run: Path, small_model: Path, hub: Any) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(small_model)
    get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(run / "model")
    for name in ("config.json", "model.safetensors"):
        (run / "model" / name).unlink()
    with pytest.raises(ModelError, match="nobody else could load the adapter"):
        publish(run, HUB, ALWAYS)
    result = publish(run, HUB, ALWAYS, base="nobody/base")
    assert result["kind"] == "adapter"
    assert json.loads(main_of(hub)["adapter_config.json"])["base_model_name_or_path"] == "nobody/base"
    assert sums(main_of(hub)) == planned(result)


def test_quantized_files_need_a_rehearsal_that_is_still_true(run: Path, tmp_path: Path, hub: Any) -> None:
    from poise.publish.rehearsal import Rehearsal, Tolerance
    from poise.run import file_sha256

    folder = tmp_path / "gguf"
    folder.mkdir()
    (folder / "small-q8_0.gguf").write_bytes(b"GGUF" + b"\0" * 64)
    with pytest.raises(RunError, match="was not rehearsed"):
        publish(folder, HUB, ALWAYS)
    digest = file_sha256(folder / "small-q8_0.gguf")
    facts: dict[str, Any] = {"format": "gguf-q8_0", "model": str(run / "model"), "created": "now", "prompts": 1,
                             "rehearsed_by": "by hand", "tokens": 9, "agreement": 1.0, "same_answers": 1,
                             "perplexity": (5.0, 5.0), "perplexity_over": "rows", "stop_rate": (1.0, 1.0),
                             "same_templates": 1, "stop_tokens": (["</s>"], ["</s>"])}  # fmt: skip
    Rehearsal(**facts, tolerance=Tolerance(0.98, 0.01), files={"small-q8_0.gguf": digest}).write(folder)
    result = publish(folder, HUB, ALWAYS)
    assert result["kind"] == "quantized model"
    assert {"small-q8_0.gguf", "README.md", "evidence/rehearsal.json"} <= set(main_of(hub))
    assert b"| agreement | 1.0 |" in main_of(hub)["README.md"]
    (folder / "small-q8_0.gguf").write_bytes(b"GGUF" + b"\1" * 64)
    with pytest.raises(RunError, match="is not what was rehearsed"):
        publish(folder, HUB, ALWAYS)


@pytest.mark.parametrize(
    "target", ["hub:", "hub:mine", "hub:../x", "hub:a/b/c", "hub:a b", "folder:", "me/mine", "s3:bucket"]
)
def test_a_target_that_is_none_is_refused(target: str) -> None:
    with pytest.raises(RecipeError, match="--to hub:OWNER/NAME"):
        read_target(target)


def test_without_a_hub_nothing_is_lost_and_the_error_says_what_to_do(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(ResourceError, match="main is as it was before"):
        publish(run, HUB, ALWAYS)


def test_stopped_by_hand_the_target_is_as_it_was(run: Path, hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("huggingface_hub.HfApi.create_commit", stop)
    outcome = CliRunner().invoke(poise, ["publish", str(run), "--to", HUB, "--yes"])
    assert isinstance(outcome.exception, InterruptedRun)
    assert main_of(hub) == {}


def kill_while_publishing(run: Path, hub: Any, seconds: float) -> None:
    """Publish in a process of its own, and kill it so long after its first request."""
    environment = os.environ | {
        "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
    }  # fmt: skip
    command = [sys.executable, "-m", "poise", "publish", str(run), "--to", HUB, "--yes"]
    before = len(hub.received)
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(hub.received) == before and process.poll() is None:
        time.sleep(0.001)
    time.sleep(seconds)
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.05)  # what was on its way arrives


@pytest.mark.parametrize("kills", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_any_moment_main_is_the_old_model_or_the_new_one(run: Path, hub: Any, kills: int) -> None:
    old = publish(run, HUB, ALWAYS)
    hub.slow = 0.03
    began = time.monotonic()
    publish(run, "hub:me/timed", ALWAYS)
    whole = time.monotonic() - began
    chance, seen = random.Random(kills), {"old": 0, "new": 0}
    was = sums(main_of(hub))
    assert was == planned(old)
    from safetensors.torch import load_file, save_file

    for index in range(kills):
        weights = {name: tensor + 0.001 for name, tensor in load_file(run / "model" / "model.safetensors").items()}
        save_file(weights, run / "model" / "model.safetensors", metadata={"format": "pt"})
        new = planned(publish(run, HUB, NEVER))
        kill_while_publishing(run, hub, chance.uniform(0, 1.2 * whole))
        found = sums(main_of(hub))
        assert found in (was, new), f"kill {index}: main is neither the old nor the new model"
        seen["new" if found == new else "old"] += 1
        was = found
    last = publish(run, HUB, ALWAYS)
    assert sums(main_of(hub)) == planned(last)
    assert sum(seen.values()) == kills


def test_killed_while_a_folder_is_written_it_is_whole_or_not_there(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "mine"
    stopped = """
import os, sys
from pathlib import Path
from poise.publish import send
from poise.publish.publish import publish
written, real = [], send._write
def stop_at(file, path):
    real(file, path)
    written.append(file)
    if len(written) == 4:
        os.kill(os.getpid(), 9)
send._write = stop_at
publish(Path(sys.argv[1]), "folder:" + sys.argv[2], lambda plan: True)
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src"), "OMP_NUM_THREADS": "1"}
    killed = subprocess.run([sys.executable, "-c", stopped, str(run), str(out)], env=environment)
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    publish(run, f"folder:{out}", ALWAYS)
    assert [path.name for path in out.parent.iterdir()] == ["mine"]


def test_a_training_command_cannot_push(tmp_path: Path) -> None:
    from poise.recipe import load_recipe

    keys = "model_name_or_path: a\ndataset_name: b\noutput_dir: c\npush_to_hub: true\nhub_model_id: me/mine\n"
    (tmp_path / "sft.yaml").write_text(keys)
    recipe = load_recipe("sft", tmp_path / "sft.yaml")
    assert recipe.training["push_to_hub"] is False
    assert any("poise publish" in str(note) for note in recipe.notes)


def test_a_model_that_changed_after_the_run_is_refused(run: Path, hub: Any) -> None:
    from poise.sealed import replace_sealed

    shutil.move(run / "model", run / "staged")
    replace_sealed(run / "staged", run / "model")
    publish(run, HUB, ALWAYS)
    change(run / "model" / "config.json", rope_theta=20_000.0)
    with pytest.raises(RunError, match=r"not as the run wrote it: config\.json"):
        publish(run, HUB, ALWAYS)


def test_offline_nothing_is_tried(run: Path, hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ResourceError, match="HF_HUB_OFFLINE keeps this process from the Hub"):
        publish(run, "hub:me/mine", lambda plan: True)
    assert not hub.received
