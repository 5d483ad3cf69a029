"""FaceNet: triplet training with in-batch mining; needs no class weights."""

from __future__ import annotations

import logging
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge
from numpy.typing import NDArray
from torch import Tensor, nn

from kdface.datasets.loading import Batch, Order
from kdface.datasets.sampling import people_by_images
from kdface.errors import UserError
from kdface.evaluation.health import Unhealthy
from kdface.faces import Preprocessing
from kdface.heads import Classifier
from kdface.heads.frame import polar
from kdface.losses import Miner, Triplets, squared_distances, triplet_hinges
from kdface.losses.ranking import Kinds, kinds, ranked_once, same_person
from kdface.losses.triplet import Margin, Reduction, reduced
from kdface.methods.base import Method, Term
from kdface.methods.networks import Views
from kdface.randomness import derive

log = logging.getLogger("kdface")

# Two images of different people closer than this (squared distance, at most 4) count as one point; a batch in which
# this share of such pairs coincides has collapsed. The share is below 100 %, for one outlier among 40 equal images is
# in 5 % of the pairs. In untrained networks 90 % of the pairs are closer than 0.016 (NN2, without batch norm) to 2.4
# (residual networks).
_ONE_POINT = 0.003
_COLLAPSED = 0.9
# Consecutive batches: a single one may collapse by chance, and a network may recover.
_PATIENCE = 20


def direction(embedding: Tensor) -> Tensor:
    """(N, D) -> (N, D) unit vectors, at least in float32."""
    return polar(embedding.to(torch.promote_types(embedding.dtype, torch.float32)))[1]


class FaceNet(Method):
    """Triplet training on batches of P people with K images (Schroff, Kalenichenko, Philbin, "FaceNet", CVPR 2015).

    loss = reduction of max(0, D(a, p) - D(a, n) + margin) over mined triplets, D being squared distances of unit
    embeddings; with a head, + head_weight * the head's loss. Triplets are mined online with the current weights, over
    the batches of all ranks; with trainer.accumulate_grad_batches, within each micro-batch.

    Logs per step: the number of mined `triplets` and `active_fraction`, the share of them with a loss above 0, which
    is 1 for miners that select no others; `hard_fraction` and `semi_hard_fraction` of all triplets in the batch, mined
    or not, whose sum is the share with a loss above 0; `distance_positive` and `distance_negative`, means over all
    same-person and different-person pairs of the batch. A batch that lost all its pairs, or all negatives, to broken
    images has a loss of 0 and logs `triplets` alone.

    Args:
        miner: selects the triplets, see `kdface.losses`.
        margin: the paper's alpha, used by the loss and the miner.
        reduction: sum as in the paper, mean, or mean_active (see `kdface.losses.triplet.reduced`). The sum grows with
            the number of triplets, so scale the learning rate down accordingly.
        people_per_batch: P. P * K must equal loader.batch_size.
        images_per_person: K.
        head_weight: weight of the head's loss, if there is a head.
    """

    needs_head: ClassVar[bool] = False

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module | None,
        preprocessing: Preprocessing,
        views: Views,
        miner: Miner,
        margin: Margin = 0.2,
        reduction: Reduction = "mean_active",
        people_per_batch: Annotated[int, Ge(2)] = 45,
        images_per_person: Annotated[int, Ge(2)] = 40,
        head_weight: Annotated[float, Ge(0)] = 1.0,
    ) -> None:
        super().__init__(backbone, head, preprocessing, views)
        if isinstance(head, Classifier):
            head.keeps_logits = head.keeps_cosine = False
        self.miner = miner
        self.margin = margin
        self.reduction = reduction
        self.people_per_batch = people_per_batch
        self.images_per_person = images_per_person
        self.head_weight = head_weight
        self.draws = torch.Generator().manual_seed(0)
        self.batches_near: Tensor
        self.register_buffer("batches_near", torch.zeros((), dtype=torch.int64))  # saved, so resuming keeps the count
        self._idle = 0  # consecutive batches without a triplet; not saved, as it only triggers a warning
        self._told_of_idleness = False

    def order(self, labels: NDArray[np.int64], batch_size: int, seed: int, parts: int = 1) -> Order:
        """P people with K images in each batch. Raises `UserError` if P * K is not `batch_size`."""
        people, images = self.people_per_batch, self.images_per_person
        if people * images != batch_size:
            raise UserError(
                f"method.people_per_batch = {people} and method.images_per_person = {images} make batches of "
                f"{people * images}, but loader.batch_size = {batch_size}.",
                fix=f"loader.batch_size={people * images}",
            )
        return people_by_images(labels, people, images, seed, parts)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed the miner by the step, identically on all ranks."""
        super().on_train_batch_start(batch, batch_idx)
        # Not by rank: all ranks mine the same triplets from the same gathered batch.
        self.draws.manual_seed(derive(self.optimization.seed, "mine", self.trainer.global_step, batch_idx))

    def terms(self, batch: Batch) -> dict[str, Term]:
        """triplet: mean of max(0, |a - p|^2 - |a - n|^2 + margin) over the mined triplets of all ranks."""
        embedding = self.embedding_of(self.pixels(batch.views[self.views.student]))
        points, label = self.points(embedding, batch)
        distances = squared_distances(points)
        with torch.no_grad(), ranked_once():
            fixed = distances.detach()
            self._watch(fixed, label)
            triplets = self.mined(fixed, label)
            found = kinds(fixed, label, self.margin)
        self._tell_of_idleness(triplets, found)
        hinges = triplet_hinges(distances, triplets, self.margin)
        self.noted = self._metrics(fixed, label, triplets, hinges.detach(), found)
        terms = {"triplet": Term(reduced(hinges, self.reduction))}
        if self.head is not None:
            output = self.head(embedding, batch.label)
            terms["classification"] = Term(output.loss, self.head_weight)
            self.noted |= output.metrics(batch.label)
        return terms

    def embedding_of(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, D) embeddings of the trained network, not normalised."""
        embedding: Tensor = self.backbone(pixels)
        return embedding

    def points(self, embedding: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Embeddings (n, D) of the batch -> the unit vectors to mine triplets from, and their labels."""
        return self._of_all_ranks(direction(embedding), batch)

    def mined(self, distances: Tensor, label: Tensor) -> Triplets:
        """The triplets that the loss is computed on."""
        return self.miner(distances, label, self.margin, self.draws)

    def _of_all_ranks(self, unit: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Gather (n, D) from each rank -> (n * ranks, D) in batch order, and the labels likewise.

        All ranks compute the same loss; the gradient of the gathered tensor is summed over them and DDP averages the
        weights' gradients, so the result equals that of a single rank with the whole batch.
        """
        several = torch.distributed.is_available() and torch.distributed.is_initialized()
        if not several or torch.distributed.get_world_size() == 1:
            return unit, batch.label
        if batch.skipped:
            raise UserError(
                f"{batch.skipped[0]}: a broken image leaves the ranks with batches of different sizes, and triplets "
                "are mined from all ranks together.",
                fix="repair the data (kdface data verify DATASET), or train on one rank",
            )
        whole, label = self.all_gather(unit, sync_grads=True), self.all_gather(batch.label)
        assert isinstance(whole, Tensor) and isinstance(label, Tensor)
        return whole.transpose(0, 1).flatten(0, 1), label.transpose(0, 1).flatten()

    def _watch(self, distances: Tensor, label: Tensor) -> None:
        """Raise `Unhealthy` if embeddings are not finite, or have been collapsed for many batches."""
        if not torch.isfinite(distances.amax()):  # amax propagates NaN
            raise Unhealthy(
                "the embeddings hold NaN or infinity: training has diverged.",
                fix="a smaller optimizer.lr, a longer warm-up, or clipped gradients (trainer.gradient_clip_val)",
            )
        if not self.training:
            return
        other = ~same_person(label)
        near = ((distances < _ONE_POINT) & other).sum() / other.sum()
        self.batches_near.copy_(torch.where(near >= _COLLAPSED, self.batches_near + 1, 0))
        if int(self.batches_near) >= _PATIENCE:
            raise Unhealthy(
                f"the embedding has collapsed: for {_PATIENCE} batches at least {_COLLAPSED:.0%} of all pairs of two "
                f"people have been closer than {_ONE_POINT} (squared distance, at most 4; now {float(near):.1%} of "
                f"them). A constant embedding has a loss of {self.margin:g}, the margin, for every triplet and almost "
                "no gradient. Usual causes: the hardest negatives from the start, too high a learning rate, "
                "mislabelled images, too few people in a batch, or weight decay that outweighs the loss.",
                fix="method.miner._target_=kdface.losses.SemiHard, a smaller optimizer.lr, or initially a head's loss "
                "in addition to the triplets (head=cosface)",
            )

    def _tell_of_idleness(self, triplets: Triplets, found: Kinds) -> None:
        """Warn once if many consecutive batches yield no triplet: a loss of 0 looks like success."""
        if not self.training:
            return
        self._idle = 0 if len(triplets.anchor) else self._idle + 1
        if self._idle < _PATIENCE or self._told_of_idleness:
            return
        self._told_of_idleness = True
        if self.global_rank:
            return  # all ranks mine the same triplets
        shares = f"{float(found.hard):.1%} hard, {float(found.semi_hard):.1%} semi-hard, {float(found.easy):.1%} easy"
        log.warning(
            "%d batches in a row have yielded no triplet, so the triplet loss is 0 and teaches nothing. Of all "
            "triplets of the last one: %s. Mostly easy: the batches have nothing left to teach (more people per "
            "batch, or a larger method.margin). Mostly hard: the embedding does not separate people yet, and a "
            "semi-hard miner finds no negatives (+method.miner.fallback=hardest, a smaller optimizer.lr, or initially "
            "head=cosface)",
            self._idle,
            shares,
        )

    @staticmethod
    def _metrics(
        distances: Tensor, label: Tensor, triplets: Triplets, hinges: Tensor, found: Kinds
    ) -> dict[str, Tensor]:
        same = same_person(label)
        own = int(same.sum()) - len(label)  # without self-pairs, whose distance is 0
        if own == 0 or same.all():  # broken images were skipped, and with them every pair or every negative
            return {"triplets": torch.tensor(0)}
        diagonal = distances.diagonal().sum()
        return {
            "triplets": torch.tensor(len(triplets.anchor)),
            "active_fraction": torch.count_nonzero(hinges) / max(1, len(hinges)),
            "hard_fraction": found.hard,
            "semi_hard_fraction": found.semi_hard,
            "distance_positive": ((distances * same).sum() - diagonal) / own,
            "distance_negative": (distances * ~same).sum() / (~same).sum(),
        }
