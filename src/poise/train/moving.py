"""A reference that follows the policy: TR-DPO (Gorbatovski et al. 2024, arXiv:2404.09656, equations 4 and 5).

    reference <- mixup x policy + (1 - mixup) x reference      every `steps` updates

mixup 1 is the paper's hard update, below 1 its soft one. Only weights that are trained can differ from the policy's, so
only those are kept: with LoRA, a copy of the adapter.
"""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from poise.batch.batch import Batch
from poise.batch.logps import Logps
from poise.batch.objective import MovingReference
from poise.batch.score import Scorer
from poise.errors import RunError

FILE = "moving_reference/weights.safetensors"
"""In a checkpoint: the reference's weights, in a folder of their own, apart from the files of the model."""


class FollowingReference:
    """The reference as weights; they take the policy's place while the reference is scored."""

    def __init__(self, scorer: Scorer, moves: MovingReference) -> None:
        self.scorer, self.moves = scorer, moves
        self.weights = {name: parameter.detach().clone() for name, parameter in _trained(scorer).items()}

    def logps(self, batch: Batch) -> Logps:
        """Score a batch under the reference as it stands now, without gradient and dropout."""
        was_training = self.scorer.training
        with_collision, self.scorer.with_collision = self.scorer.with_collision, False
        try:
            with self._in_place(), torch.no_grad():
                return self.scorer.eval()(batch)
        finally:
            self.scorer.train(was_training)
            self.scorer.with_collision = with_collision

    def follow(self, step: int) -> None:
        """Move towards the policy, if it is time after this many updates."""
        if step % self.moves.steps == 0:
            for name, parameter in _trained(self.scorer).items():
                self.weights[name].lerp_(parameter.detach(), self.moves.mixup)

    def save(self, folder: Path) -> None:
        """Write the weights into a checkpoint."""
        from safetensors.torch import save_file

        (folder / FILE).parent.mkdir(exist_ok=True)
        save_file({name: weight.contiguous() for name, weight in self.weights.items()}, folder / FILE)

    def load(self, folder: Path) -> None:
        """Take the weights of a checkpoint; RunError where it has none."""
        from safetensors.torch import load_file

        if not (folder / FILE).is_file():
            raise RunError(
                f"{folder} holds no {FILE}, so where the moving reference stood is not known\n"
                "    to do:  resume without sync_ref_model as the run was started, or start anew with --overwrite"
            )
        for name, weight in load_file(folder / FILE).items():
            self.weights[name].copy_(weight)

    @contextmanager
    def _in_place(self) -> Generator[None]:
        policy = {name: parameter.data for name, parameter in _trained(self.scorer).items()}
        self._put(self.weights)
        try:
            yield
        finally:
            self._put(policy)

    def _put(self, weights: dict[str, Tensor]) -> None:
        for name, parameter in _trained(self.scorer).items():
            parameter.data = weights[name]


class Follow(TrainerCallback):
    """Move the reference after an update."""

    def __init__(self, reference: FollowingReference) -> None:
        self.reference = reference

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Tell the reference how many updates were made."""
        self.reference.follow(state.global_step)
        return control


def _trained(scorer: Scorer) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in scorer.named_parameters() if parameter.requires_grad}
