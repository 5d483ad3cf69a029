"""Optimisation of a method: parameter groups, learning rates, schedule, clipping and optimiser state."""

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
    """Optimisation settings. `optimizer` and `schedule` are built once Lightning has placed the parameters.

    Attributes:
        optimizer: parameters -> optimiser.
        schedule: (optimiser, total steps, steps per epoch) -> schedule, stepped after each optimiser step.
        seed: of all random draws during training steps.
        total_steps, steps_per_epoch: null: as estimated by the Trainer.
        lr_scale: learning-rate factors of parts of the method, by name.
        gradient_clip: maximum gradient norm of parts of the method, by name; trainer.gradient_clip_val limits that of
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
        """The optimisation settings. Raises `UserError` before `optimize_with`."""
        if self._optimization is None:
            raise UserError("the method has no optimiser yet.", fix="call optimize_with(...) first")
        return self._optimization

    def optimize_with(self, optimization: Optimization) -> None:
        """Set the optimisation settings, before training."""
        self._optimization = optimization
        scales(self, optimization.lr_scale)
        for name in optimization.gradient_clip:
            self._require_clippable(name)

    @property
    def attached(self) -> bool:
        """Whether a Trainer is attached."""
        try:
            return self.trainer is not None
        except RuntimeError:
            return False

    @property
    def total_steps(self) -> int:
        """Total optimiser steps: as given, or estimated by the Trainer."""
        return self.optimization.total_steps or int(self.trainer.estimated_stepping_batches)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps per epoch."""
        return self.optimization.steps_per_epoch or max(1, self.total_steps // max(1, self.trainer.max_epochs or 1))

    def parameter_groups(self) -> list[Any]:
        """Parameters to optimise. A method may return several groups, with `lr_scale` relative to optimizer.lr."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def moved_groups(self) -> list[Any]:
        """`parameter_groups`, split further if parts have their own learning rates."""
        groups = self.parameter_groups()
        scale = self.optimization.lr_scale
        return in_groups(groups, scales(self, scale)) if scale else groups

    def configure_optimizers(self) -> Any:
        """The optimiser over the trained parameters, with learning rates scaled by group, and its per-step schedule."""
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
        """Clip the gradients of each part in `gradient_clip`, then apply the Trainer's clipping.

        Lightning calls it after gradients are accumulated, reduced over ranks and unscaled.
        """
        for name, largest in self.optimization.gradient_clip.items():
            clip_grad_norm_(self.get_submodule(name).parameters(), largest)
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def _require_clippable(self, name: str) -> None:
        """Raise `UserError` unless a part of the method with weights has that name."""
        parts = dict(self.named_modules())
        known = [path for path, part in parts.items() if path and any(True for _ in part.parameters())]
        if name not in known:
            short = [key for key in known if "." not in key]
            raise UserError(
                f"gradient_clip names {name!r}, but {type(self).__name__} has no such part.",
                expected=f"one of {', '.join(short)}, or a part of these such as {max(known[:9], key=len)}",
                nearest=nearest(name, known),
                fix=f"gradient_clip={{{nearest(name, known) or short[0]}:5.0}}",
            )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the optimiser state of sharded class weights unsharded."""
        self._convert_sharded(checkpoint, PartialFC.whole)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Load this rank's shard of the optimiser state; and, other than to train on, an average of the weights."""
        averaged = any(name.startswith("averaged.") for name in checkpoint["state_dict"])
        if averaged and self.averaged is None and not (self.attached and self.trainer.training):
            self.add_average()
        self._convert_sharded(checkpoint, PartialFC.own)

    def _convert_sharded(self, checkpoint: dict[str, Any], convert: Callable[[PartialFC, Tensor], Tensor]) -> None:
        heads = {
            id(module.weight): module for module in self.modules() if isinstance(module, PartialFC) and module.world > 1
        }
        if not heads:
            return
        groups = [group["params"] if isinstance(group, dict) else [group] for group in self.moved_groups()]
        for index, parameter in enumerate(member for group in groups for member in group):
            head = heads.get(id(parameter))
            for state in (optimizer["state"] for optimizer in checkpoint.get("optimizer_states", [])):
                if head is not None and index in state:
                    state[index] = {
                        name: convert(head, value) if isinstance(value, Tensor) and value.ndim else value
                        for name, value in state[index].items()
                    }
