"""Model folders made to harm: each function turns a sound folder into one, with a canary that its code would leave."""

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

Harm = Callable[[Path, Path], None]
"""Called with the folder and the canary's path."""


class Payload:
    """Makes the canary when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


def code(canary: Path) -> str:
    """Python that makes the canary when it is imported."""
    return f"import pathlib\npathlib.Path({str(canary)!r}).touch()\nclass Evil: pass\n"


def change(folder: Path, file: str, **values: Any) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def pickled(folder: Path, canary: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(canary)))


def pickled_shard(folder: Path, canary: Path) -> None:
    (folder / "evil.bin").write_bytes(pickle.dumps(Payload(canary)))
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "evil.bin"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def pickle_as_safetensors(folder: Path, canary: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps(Payload(canary)))


def remote_code(folder: Path, canary: Path) -> None:
    (folder / "evil.py").write_text(code(canary))
    named = {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}
    change(folder, "config.json", model_type="evil", auto_map=named)


def remote_tokenizer(folder: Path, canary: Path) -> None:
    (folder / "evil.py").write_text(code(canary))
    change(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", None]}, trust_remote_code=True)


def trusting(folder: Path, canary: Path) -> None:
    change(folder, "config.json", text_config={"model_type": "llama", "trust_remote_code": True})


def kernel(folder: Path, canary: Path) -> None:
    change(folder, "config.json", _attn_implementation_internal="evil/kernel:run")


def nested_kernel(folder: Path, canary: Path) -> None:
    change(folder, "config.json", text_config={"attn_implementation": {"": "evil/kernel"}})


def experts_kernel(folder: Path, canary: Path) -> None:
    change(folder, "config.json", _experts_implementation_internal="evil/kernel")


def newline_in_type(folder: Path, canary: Path) -> None:
    change(folder, "config.json", model_type=f"llama\nimport os; os.system('touch {canary}')")


def path_as_type(folder: Path, canary: Path) -> None:
    change(folder, "config.json", model_type="../../evil")


def vocabulary_from_elsewhere(folder: Path, canary: Path) -> None:
    change(folder, "tokenizer_config.json", vocab_file="/etc/passwd", merges_file="/root/.cache/not/here")


def dunder(folder: Path, canary: Path) -> None:
    change(folder, "config.json", __class__="evil")


def traversal(folder: Path, canary: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder.parent / "outside.safetensors")
    index = {"weight_map": {"lm_head.weight": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def absolute(folder: Path, canary: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder.parent / "outside.safetensors")
    index = {"weight_map": {"lm_head.weight": str(folder.parent / "outside.safetensors")}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def linked_weights(folder: Path, canary: Path) -> None:
    shutil.move(folder / "model.safetensors", folder.parent / "secret.safetensors")
    (folder / "model.safetensors").symlink_to(folder.parent / "secret.safetensors")


def linked_config(folder: Path, canary: Path) -> None:
    (folder / "generation_config.json").unlink(missing_ok=True)
    (folder / "generation_config.json").symlink_to("/etc/passwd")


def pipe(folder: Path, canary: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


def device(folder: Path, canary: Path) -> None:
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    (folder / "chat_template.jinja").symlink_to("/dev/zero")


def giant_header(folder: Path, canary: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**62) + whole[8:])


def beyond_the_file(folder: Path, canary: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 64)


def twice_in_header(folder: Path, canary: Path) -> None:
    entry = '"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
    header = f"{{{entry}, {entry}}}".encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)


def deep_json(folder: Path, canary: Path) -> None:
    (folder / "config.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)


def many_layers(folder: Path, canary: Path) -> None:
    change(folder, "config.json", num_hidden_layers=10**9)


def wide_embeddings(folder: Path, canary: Path) -> None:
    change(folder, "config.json", vocab_size=2**36)


def many_experts(folder: Path, canary: Path) -> None:
    change(folder, "config.json", num_local_experts=10**9)


def template_loops(folder: Path, canary: Path) -> None:
    text = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    (folder / "chat_template.jinja").write_text(text)


def template_memory(folder: Path, canary: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ 'A' * 10**10 }}")


def template_escape(folder: Path, canary: Path) -> None:
    run = f"{{{{ cycler.__init__.__globals__.os.popen('touch {canary}').read() }}}}"
    (folder / "chat_template.jinja").write_text(run)


def adapter_pickled(folder: Path, canary: Path) -> None:
    adapter(folder)
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Payload(canary)))


def adapter_importing(folder: Path, canary: Path) -> None:
    (folder / "evil.py").write_text(code(canary))
    adapter(folder, megatron_config={"x": 1}, megatron_core="evil")


def adapter_without_base(folder: Path, canary: Path) -> None:
    adapter(folder, base_model_name_or_path=None)


def adapter(folder: Path, **values: Any) -> None:
    """Turn a model's folder into that of an adapter on a copy of it."""
    base = folder.parent / "base"
    shutil.copytree(folder, base, dirs_exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        (folder / name).unlink()
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": str(base), "r": 2,
              "lora_alpha": 4, "target_modules": ["q_proj"]}  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config | values))


HARMS: dict[str, Harm] = {
    harm.__name__.replace("_", " "): harm
    for harm in (
        pickled, pickled_shard, pickle_as_safetensors, remote_code, remote_tokenizer, trusting, kernel, nested_kernel,
        experts_kernel, newline_in_type, path_as_type, dunder, traversal, absolute, linked_weights, linked_config, pipe,
        device, giant_header, beyond_the_file, twice_in_header, deep_json, many_layers, wide_embeddings, many_experts,
        vocabulary_from_elsewhere, template_loops, template_memory, template_escape, adapter_pickled,
        adapter_importing, adapter_without_base,
    )
}  # fmt: skip
