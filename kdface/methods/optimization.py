"""How the parameters of a method move: groups, learning rates, schedule, clipping, and the optimiser's state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kdface.errors import UserError, nearest
from kdface.heads import PartialFC
from kdface.methods.networks import Networks
from kdface.methods.parts import in_groups, scales


@dataclass(frozen=True)
class Optimization:
    """How the parameters move. `optimizer` and `schedule` are made once Lightning has placed the parameters.

    Attributes:
        optimizer: parameters -> optimiser.
        schedule: (optimiser, steps in all, steps per epoch) -> schedule, stepped after each optimiser step.
        seed: of every random draw of the steps.
        total_steps, steps_per_epoch: null: what the Trainer estimates.
        lr_scale: what the learning rates of parts of the method are multiplied by, by name.
        gradient_clip: the largest gradient norm of parts of the method, by name; trainer.gradient_clip_val is that of
            all parameters together.
    """

    optimizer: Callable[[Iterable[Any]], Optimizer]
    schedule: Callable[[Optimizer, int, int], LRScheduler]
    seed: int
    total_steps: int | None = None
    steps_per_epoch: int | None = None
    gradient_clip: Mapping[str, float] = field(default_factory=dict)
    lr_scale: Mapping[str, float] = field(default_factory=dict)


class Optimized(Networks):
    """Networks with an optimiser."""

    _optimization: Optimization | None = None

    @property
    def optimization(self) -> Optimization:
        """How the parameters move. Raises `UserError` before `optimize_with`."""
        if self._optimization is None:
            raise UserError("the method has no optimiser yet.", fix="call optimize_with(...) first")
        return self._optimization

    def optimize_with(self, optimization: Optimization) -> None:
        """Set before training."""
        self._optimization = optimization
        scales(self, optimization.lr_scale)
        for name in optimization.gradient_clip:
            self._require_clippable(name)

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole training: given, or what the Trainer estimates."""
        return self.optimization.total_steps or int(self.trainer.estimated_stepping_batches)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch."""
        return self.optimization.steps_per_epoch or max(1, self.total_steps // max(1, self.trainer.max_epochs or 1))

    def parameter_groups(self) -> list[Any]:
        """What the optimiser moves. A method may return several groups, `lr_scale` being relative to optimizer.lr."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def moved_groups(self) -> list[Any]:
        """`parameter_groups`, divided if parts have their own learning rates."""
        groups = self.parameter_groups()
        scale = self.optimization.lr_scale
        return in_groups(groups, scales(self, scale)) if scale else groups

    def configure_optimizers(self) -> Any:
        """The optimiser over the parameters that move, learning rates scaled by group, and its schedule by step."""
        plan = self.optimization
        optimizer = plan.optimizer(self.moved_groups())
        for group in optimizer.param_groups:
            group["lr"] *= group.pop("lr_scale", 1.0)
        schedule = plan.schedule(optimizer, self.total_steps, self.steps_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Scale the gradients of each part in `gradient_clip` to its norm, then do what the Trainer is asked to.

        Lightning calls it once gradients are summed over accumulated parts and ranks and are without half precision's
        scale.
        """
        for name, largest in self.optimization.gradient_clip.items():
            clip_grad_norm_(self.get_submodule(name).parameters(), largest)
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def _require_clippable(self, name: str) -> None:
        """Raise `UserError` unless a part of the method has that name and weights."""
        parts = dict(self.named_modules())
        known = [path for path, part in parts.items() if path and any(True for _ in part.parameters())]
        if name not in known:
            short = [key for key in known if "." not in key]
            raise UserError(
                f"gradient_clip names {name!r}, and {type(self).__name__} has no such part.",
                expected=f"one of {', '.join(short)}, or a part of these such as {max(known[:9], key=len)}",
                nearest=nearest(name, known),
                fix=f"gradient_clip={{{nearest(name, known) or short[0]}:5.0}}",
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A checkpoint holds the optimiser's state of class weights that are divided over ranks whole."""
        self._convert_sharded(checkpoint, PartialFC.whole)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take this rank's part of a head that is divided over ranks."""
        self._convert_sharded(checkpoint, PartialFC.own)

    def _convert_sharded(self, checkpoint: dict[str, Any], convert: Callable[[PartialFC, Tensor], Tensor]) -> None:
        heads = {
            id(module.weight): module for module in self.modules() if isinstance(module, PartialFC) and module.world > 1
        }
        groups = [group["params"] if isinstance(group, dict) else [group] for group in self.moved_groups()]
        for index, parameter in enumerate(member for group in groups for member in group):
            head = heads.get(id(parameter))
            for state in (optimizer["state"] for optimizer in checkpoint.get("optimizer_states", [])):
                if head is not None and index in state:
                    state[index] = {
                        name: convert(head, value) if isinstance(value, Tensor) and value.ndim else value
                        for name, value in state[index].items()
                    }
