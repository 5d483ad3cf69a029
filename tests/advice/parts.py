"""Parts that a user could have written, with a mistake or a limit of their own; KDFACE_PLUGINS=tests admits them."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn

from kdface.assembly.assemble import assemble
from kdface.commands import reproduce
from kdface.config.compose import compose
from kdface.datasets.loading import Batch
from kdface.faces import Preprocessing
from kdface.methods import FaceNet, Method, Term, Views
from kdface.runs.folder import RunFolder
from kdface.sweeps.engine import Job
from kdface.sweeps.ledger import Entry
from kdface.sweeps.search import Search
from kdface.training.trainer import require_whole_gradients
from tests.conftest import UNTESTED


class Plain(nn.Module):
    """A network without maps of its stages."""

    def __init__(self, embedding_size: int = 8) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.layer = nn.Linear(3, embedding_size)

    def forward(self, images: Tensor) -> Tensor:
        embedding: Tensor = self.layer(images.mean((2, 3)))
        return embedding


class Headless(Method):
    """A method that has no head."""

    def __init__(self, backbone: nn.Module, preprocessing: Preprocessing, views: Views) -> None:
        super().__init__(backbone, None, preprocessing, views)

    def terms(self, batch: Batch) -> dict[str, Term]:
        return {"norm": Term(self.backbone(self.pixels(batch.views[self.views.student])).square().mean())}


def searched_for(objective: str, run: str) -> None:
    """What a search takes from a finished run."""
    search = object.__new__(Search)
    search.objectives = {objective: "maximize"}
    search._values(Job(0, Entry(run), RunFolder(Path(run)), lambda: None))


def reproduced_in_vain(cell: str) -> None:
    """Reproduce a cell of a published table where its runs fail."""
    with mock.patch("kdface.commands.table._train", return_value=True):
        reproduce.run([cell])


def mined_on_two_ranks(skipped: tuple[str, ...]) -> None:
    """Bring together what one of two ranks has embedded."""
    method = object.__new__(FaceNet)
    batch = Batch({}, torch.zeros(1, dtype=torch.int64), ["p0/y.png"], list(skipped))
    with (
        mock.patch("torch.distributed.is_initialized", return_value=True),
        mock.patch("torch.distributed.get_world_size", return_value=2),
    ):
        method.points(torch.ones(1, 8), batch)


def trained_on_two_ranks(precision: str) -> None:
    """Check that divided class weights can be trained at a precision of the hardware's."""
    job = assemble(compose([*UNTESTED, "head=partial_fc", "trainer.devices=2"]).tree)
    require_whole_gradients(job.method, job.settings, precision)
