"""Eight secrets where people have them; a training, its card, its report and its publishing write down none."""

import subprocess
import sys
from pathlib import Path

import pytest

SECRETS = {
    "HF_TOKEN": "hf_" + "A1b2C3d4" * 4,
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "OPENAI_API_KEY": "sk-proj-" + "a1B2" * 8,
    "AWS_SECRET": "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY",
    "DATABASE_PASSWORD": "correct-horse-battery",
}
IN_CODE = {"login": "open-sesame-now", "code": "ghp_" + "a1B2" * 9, "cloud": "AKIAIOSFODNN7EXAMPLE"}


@pytest.mark.slow
def test_no_secret_is_in_a_byte_of_what_is_written(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    row = '{"messages": [{"role": "user", "content": "%d?"}, {"role": "assistant", "content": "yes"}]}\n'
    (tmp_path / "rows.jsonl").write_text("".join(row % number for number in range(8)))
    base = [sys.executable, "-m", "poise"]
    settled = {
        "model_name_or_path": small_model, "dataset_name": tmp_path / "rows.jsonl", "max_steps": 2, "use_cpu": "true",
        "chat_template": "chatml", "max_new_tokens": 4, "question_count": 2, "reference_cache": "false",
        "output_dir": tmp_path / "run",
    }  # fmt: skip
    keys = [f"{key}={value}" for key, value in settled.items()]
    login = f"https://me:{IN_CODE['login']}@host/x {IN_CODE['code']} {IN_CODE['cloud']}"
    commands = [
        ["sft", *keys, f"run_name={login}"],
        ["sft", *keys, f"output_dir={tmp_path / 'crashed'}", f"dataset_name={login}", "--debug"],
        ["card", str(tmp_path / "run")],
        ["publish", str(tmp_path / "run"), "--to", f"folder:{tmp_path / 'out'}", "--yes"],
        ["publish", str(tmp_path / "run"), "--to", "hub:me/mine"],
    ]
    told = b""
    for command in commands:
        done = subprocess.run([*base, *command], capture_output=True, cwd=tmp_path)
        told += done.stdout + done.stderr
        assert done.returncode == (2 if "--debug" in command else 0), done.stderr.decode()
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 20
    for name, secret in (SECRETS | IN_CODE).items():
        assert not any(secret.encode() in content for content in [told, *written]), name
