"""Training with SphereFace-R or any other margin head: one network, one view, the head's loss."""

from __future__ import annotations

from torch import nn

from kdface.datasets.loading import Batch
from kdface.faces import Preprocessing
from kdface.heads import Classifier
from kdface.methods.base import Method, Term
from kdface.methods.networks import Views


class SphereFaceR(Method):
    """Margin-softmax training (Liu et al., "SphereFace Revived", TPAMI 2023).

    loss = head(backbone(student view), label); the margin, its scale and its loss weight are the head's.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, preprocessing: Preprocessing, views: Views) -> None:
        super().__init__(backbone, head, preprocessing, views)
        if isinstance(head, Classifier):
            head.keeps_logits = head.keeps_cosine = False

    def terms(self, batch: Batch) -> dict[str, Term]:
        """classification: the loss of the head."""
        assert self.head is not None
        output = self.head(self.backbone(self.pixels(batch.views[self.views.student])), batch.label)
        self.noted = output.metrics(batch.label)
        return {"classification": Term(output.loss)}
