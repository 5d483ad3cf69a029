"""Training images/s on a GPU and model FLOP utilisation (MFU): iResNet-18, -50 and -100 with a CosFace head, at 112.

    MFU = 3 * forward FLOPs of backbone and head per image * images/s / peak FLOP/s of the device

A step's backward pass costs twice its forward pass (every product has two gradients), hence the 3. FLOPs are counted
by torch from the shapes, a multiplication and an addition as two. The peak is measured beside: the fastest of a few
large bfloat16 matrix products. Batches are drawn on the device and stay there, so that the network alone is timed; a
step is timed between two synchronisations around many steps, none inside.

python -m benchmarks.gpu [--minutes 8]: what does not fit into the minutes is left out, and said.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kdface.backbones import iresnet18, iresnet50, iresnet100
from kdface.heads import CosFace
from kdface.heads.frame import Head

BACKBONES: dict[str, Callable[[], nn.Module]] = {
    "iresnet18": iresnet18,
    "iresnet50": iresnet50,
    "iresnet100": iresnet100,
}
CLASSES, SIZE = 10_000, 112
WARMUP = 5


@dataclass(frozen=True)
class Measured:
    """Attributes: images per second, utilisation of the measured peak (0 to 1), peak memory in GiB."""

    rate: float
    utilisation: float
    memory: float


class Step:
    """One optimiser step of a backbone and a head on a batch that stays on the device, without synchronisation."""

    def __init__(
        self, backbone: nn.Module, head: Head, batch: int, size: int, device: torch.device, compiled: bool
    ) -> None:
        draws = torch.Generator().manual_seed(0)
        images = torch.rand(batch, 3, size, size, generator=draws) * 2 - 1
        self.images = images.to(device, memory_format=torch.channels_last)
        self.labels = torch.randint(head.num_classes, (batch,), generator=draws).to(device)
        self.backbone = backbone.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.head = head.to(device)
        self.forward: nn.Module = torch.compile(self.backbone) if compiled else self.backbone  # type: ignore[assignment]
        parameters = [*self.backbone.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.SGD(
            parameters, lr=0.1, momentum=0.9, weight_decay=5e-4, fused=device.type == "cuda"
        )

    def __call__(self) -> Tensor:
        """The loss, on the device."""
        with torch.autocast(self.images.device.type, dtype=torch.bfloat16):
            embedding = self.forward(self.images)
        loss: Tensor = self.head(embedding, self.labels).loss
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()


def forward_flops(backbone: nn.Module, head: nn.Module, size: int) -> int:
    """FLOPs of one image's forward pass through both, on the device that they are on."""
    device = next(backbone.parameters()).device
    trained = backbone.training, head.training
    backbone.eval(), head.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        embedding = backbone(torch.zeros(1, 3, size, size, device=device))
        head(embedding, torch.zeros(1, dtype=torch.int64, device=device))
    backbone.train(trained[0]), head.train(trained[1])
    return int(counter.get_total_flops())


def peak_flops(device: torch.device, size: int = 8192, seconds: float = 2.0) -> float:
    """FLOP/s of the fastest square bfloat16 matrix product within some seconds."""
    left = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    right, best, end = left.clone(), 0.0, time.perf_counter() + seconds
    while True:
        spent = _seconds(lambda: left @ right, 3, device)
        best = max(best, 2 * size**3 / spent)
        if time.perf_counter() > end:
            return best


def measure(step: Step, batch: int, steps: int, flops: int, peak: float) -> Measured:
    """Time steps after a warm-up. `flops` are those of one image's forward pass."""
    device = step.images.device
    for _ in range(WARMUP):
        step()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    rate = batch / _seconds(step, steps, device)
    memory = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0
    return Measured(rate, 3 * flops * rate / peak, memory)


def _seconds(work: Callable[[], object], times: int, device: torch.device) -> float:
    """Seconds of one call, over several between two synchronisations."""
    _wait(device)
    start = time.perf_counter()
    for _ in range(times):
        work()
    _wait(device)
    return (time.perf_counter() - start) / times


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    parser = argparse.ArgumentParser(description="Training speed on a GPU.")
    parser.add_argument("--minutes", type=float, default=8.0, help="what does not fit is left out")
    end = time.monotonic() + 60 * parser.parse_args().minutes
    if not torch.cuda.is_available():
        print("gpu: no CUDA device; left out")
        return
    device = torch.device("cuda")
    peak = peak_flops(device)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}: {peak / 1e12:.0f} TFLOP/s in bfloat16 products")
    for name, build in BACKBONES.items():
        for compiled in (False, True):
            for batch in (128, 512):
                if time.monotonic() > end - 60:
                    print(f"  {name}, batch {batch}, compiled {compiled}: left out, the time is up")
                    continue
                torch.manual_seed(0)
                backbone = build().to(device)
                head = CosFace(512, CLASSES).to(device)
                flops = forward_flops(backbone, head, SIZE)
                found = measure(Step(backbone, head, batch, SIZE, device, compiled), batch, 30, flops, peak)
                print(
                    f"  {name:<10} batch {batch:>4} {'compiled' if compiled else 'eager':<9} {found.rate:8.0f} images/s"
                    f"   MFU {100 * found.utilisation:5.1f} %   {found.memory:5.1f} GiB   "
                    f"{flops / 1e9:.2f} GFLOP an image"
                )


if __name__ == "__main__":
    main()
