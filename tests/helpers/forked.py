"""A server that has everything imported and forks training processes on request, so that they start in no time.

It reads a request per line, forks as many as that asks for, answers with their numbers, waits, and answers with their
exit codes. Several know of one another by the variables that torchrun sets. Run as a program it is the server; imported
it is the client.
"""

import contextlib
import ctypes
import dataclasses
import gc
import importlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

SIGNALS = (signal.SIGINT, signal.SIGTERM)
VERBS = ("cpt", "sft", "dpo", "orpo")
FAULTS = Path(__file__).with_name("faults.c")


class Forks:
    """The client: start one training process after another."""

    def __init__(self, folder: Path, base: Path) -> None:
        """Compile the faults into `folder`; `base` is a model like the ones that will be trained."""
        library = folder / "faults.so"
        made = subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(FAULTS), "-ldl"], check=False)
        self.has_faults = made.returncode == 0
        quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
                 "MALLOC_ARENA_MAX": "1"}  # fmt: skip
        preload = {"LD_PRELOAD": str(library), "FAULTS": str(library)} if self.has_faults else {}
        self._told = folder / "server.log"
        with self._told.open("w") as told:
            self._server = subprocess.Popen(
                [sys.executable, __file__, str(base)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=told,
                text=True, env=os.environ | quiet | preload,
            )  # fmt: skip
        self._answer()

    def start(self, verb: str, overrides: list[str], *flags: str, log: Path, **fault: Any) -> int:
        """Fork a training process; returns its number. `wait` must follow."""
        return self.start_all(1, verb, overrides, *flags, log=log, **fault)[0]

    def start_all(
        self, processes: int, verb: str, overrides: list[str], *flags: str, log: Path, **more: Any
    ) -> list[int]:
        """Fork processes that train together; returns their numbers by rank. `wait_all` must follow."""
        request = {"processes": processes, "verb": verb, "overrides": overrides, "flags": flags, "log": str(log)}
        self._ask(request | more)
        return json.loads(self._answer())

    def wait(self) -> int:
        """Return the exit code of the process that was started, negative for a signal."""
        return self.wait_all()[0]

    def wait_all(self) -> list[int]:
        """Return the exit codes of those that were started, by rank."""
        return json.loads(self._answer())

    def run(self, verb: str, overrides: list[str], *flags: str, log: Path, **fault: Any) -> int:
        """Run a training process to its end; returns the exit code."""
        self.start(verb, overrides, *flags, log=log, **fault)
        return self.wait()

    def close(self) -> None:
        """End the server."""
        with contextlib.suppress(OSError):
            self._server.communicate(timeout=30)

    def _ask(self, request: dict[str, Any]) -> None:
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()

    def _answer(self) -> str:
        assert self._server.stdout is not None
        answer = self._server.stdout.readline()
        assert answer, self._told.read_text()
        return answer


def _serve(base: str) -> None:
    warnings.simplefilter("ignore")
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    torch.set_num_threads(1)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until a child can handle them, as one whose imports are done
    LlamaForCausalLM.from_pretrained(base)  # which builds tables that every later load uses
    PreTrainedTokenizerFast.from_pretrained(base)
    for name in ("poise.cli", "poise.workflow", *(f"poise.objectives.{verb}" for verb in VERBS)):
        importlib.import_module(name)
    _import_what_training_does(base)
    gc.collect()
    gc.freeze()  # a child's collections need not look at what was imported
    _tell("ready")
    for line in sys.stdin:
        request = json.loads(line)
        children = _fork(request, request["processes"])
        _tell(children)
        _tell([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])


def _fork(request: dict[str, Any], processes: int) -> list[int]:
    """Fork so many, each a run or one process of a run; returns their numbers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    children: list[int] = []
    for rank in range(processes):
        child = os.fork()
        if child == 0:
            if processes > 1:
                os.environ |= {
                    "RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                    "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "GLOO_SOCKET_IFNAME": "lo",
                }  # fmt: skip
            if rank == request.get("spoil", [None, None])[1]:
                _spoil(request["spoil"][0])
            _be_a_run(request)
        children.append(child)
    return children


def _spoil(how: str) -> None:
    """Let the third forward pass with gradients fail, kill its process, or multiply what it returns by a number."""
    from poise.batch.score import Scorer

    forward, calls = Scorer.forward, itertools.count()

    def spoiled(self: Scorer, batch: Any) -> Any:
        logps = forward(self, batch)
        if not torch.is_grad_enabled() or next(calls) < 2:
            return logps
        if how == "error":
            raise ArithmeticError("the sky fell")
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return dataclasses.replace(logps, values=logps.values * float(how))

    Scorer.forward = spoiled


def _import_what_training_does(base: str) -> None:
    """Train in a child, and import here what it imported on the way: most libraries do so where a thing is used."""
    with tempfile.TemporaryDirectory() as folder:
        data, told = Path(folder) / "rows.jsonl", Path(folder) / "modules.json"
        data.write_text(json.dumps({"prompt": "Say moon", "completion": "moon"}) + "\n")
        keys = {"model_name_or_path": base, "dataset_name": data, "output_dir": Path(folder) / "run", "use_cpu": True,
                "question_count": 0, "chat_template": "chatml", "max_steps": 1, "use_peft": True, "warmup_steps": 0,
                "lora_target_modules": "all-linear"}  # fmt: skip
        child = os.fork()
        if child == 0:
            request = {"verb": "sft", "overrides": [f"{key}={value}" for key, value in keys.items()], "flags": []}
            _be_a_run(request | {"log": os.devnull, "modules": str(told)})
        os.waitpid(child, 0)
        for name in json.loads(told.read_text()):
            with contextlib.suppress(ImportError):
                importlib.import_module(name)


def _tell(answer: object) -> None:
    sys.stdout.write(f"{json.dumps(answer)}\n")
    sys.stdout.flush()


def _be_a_run(request: dict[str, Any]) -> None:
    """Do what `poise VERB …` does, or with `bare` only the training, whose report takes longer than all of it."""
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 2)
    os.dup2(os.open(request["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND) if "out" in request else log, 1)
    sys.argv = ["poise", request["verb"], *request["overrides"], *request["flags"]]
    code: Any = 1
    counted = request.get("counted")
    try:
        if "folder" in request:
            _arm(request["folder"], request.get("nth", 0), request.get("what", 0), request.get("room"))
        import poise.cli
        from poise.signals import stopping_at_once

        if request.get("bare", True):
            _without_report()
        if "space" in request:
            _limit_space(**request["space"])
        with stopping_at_once():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            poise.cli.main()
        code = 0
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt as stopped:
        sys.stderr.write(str(stopped))
        code = getattr(stopped, "exit_code", 130)
    finally:
        if "modules" in request:
            Path(request["modules"]).write_text(json.dumps([name for name in sys.modules if "__mp" not in name]))
        if counted:
            Path(counted).write_text(str(ctypes.CDLL(os.environ["FAULTS"]).fault_calls()))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _limit_space(room: int, told: str) -> None:
    """Let the address space grow by `room` bytes once training has begun, 0 for all, and write how much it did."""
    import resource

    from transformers import Trainer, TrainerCallback

    def status(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

    class Limit(TrainerCallback):
        before = 0

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.before = status("VmSize")
            if room:
                resource.setrlimit(resource.RLIMIT_AS, (self.before + room,) * 2)

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            Path(told).write_text(str(status("VmPeak") - self.before))

    made = Trainer.__init__

    def with_limit(self: Trainer, *args: Any, callbacks: Any = (), **kwargs: Any) -> None:
        made(self, *args, callbacks=[*callbacks, Limit()], **kwargs)

    Trainer.__init__ = with_limit


def _without_report() -> None:
    import poise.workflow
    from poise.recipe import Recipe
    from poise.run import Run
    from poise.train.train import train

    def alone(recipe: Recipe, *, resume: bool = False, overwrite: bool = False) -> dict[str, Any]:
        train(recipe, Run(Path(str(recipe.training["output_dir"]))), resume=resume, overwrite=overwrite)
        return {}

    poise.workflow.train_and_report = alone


def _arm(folder: str, nth: int, what: int, room: int | None) -> None:
    faults = ctypes.CDLL(os.environ["FAULTS"])
    faults.fault_arm(folder.encode(), ctypes.c_long(nth), what)
    if room is not None:
        faults.fault_room(ctypes.c_long(room))


if __name__ == "__main__":
    _serve(sys.argv[1])
