"""AI-KD: a quality score that survives misalignment, taught by a frozen recognition network and quality labels."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, l1_loss, smooth_l1_loss

from kdface.backbones.graded import Graded
from kdface.datasets.loading import Batch, TrainingSet
from kdface.datasets.readable import Readable
from kdface.errors import UserError, nearest
from kdface.faces import Preprocessing
from kdface.losses import cosine_consistency
from kdface.methods.base import Method, Term
from kdface.methods.networks import Views
from kdface.teachers import StoredTeacher, Teacher
from kdface.teachers.quality.labels import quality_labels

log = logging.getLogger("kdface")


@dataclass(frozen=True)
class BackboneGroup:
    """How the backbone's parameters move where they move otherwise than the quality head's.

    Attributes:
        lr_scale: learning rate as a multiple of the optimiser's.
        momentum, weight_decay: null: the optimiser's own.
    """

    lr_scale: Annotated[float, Ge(0)] = 1.0
    momentum: Annotated[float, Ge(0)] | None = None
    weight_decay: Annotated[float, Ge(0)] | None = None


class AIKD(Method):
    """AI-KD (Babnik, Boutros, Damer, Peer, Struc, "AI-KD: Towards Alignment Invariant Face Image Quality Assessment
    Using Knowledge Distillation", IWBF 2024).

    The student sees the perturbed crop only; of the aligned crop the frozen teacher gives the embedding e, and the
    teacher's quality source gave the label q in [0, 1] once before training:

        loss = representation_weight * mean(1 - cos(e_student, e)) + quality_weight * mean(l(q_student - q)),

    with l Smooth-L1 (beta = 0.5: d^2 where |d| < 0.5, else |d| - 0.25), as published code has it, or L1, as the
    paper's figure says. The student starts as a copy of the teacher.

    Its record holds `agreement` (mean cosine of student and teacher) and `quality_error` (mean |q_student - q|).

    Args:
        representation_weight, quality_weight: of the two terms.
        quality_loss, beta: see above.
        hidden: width of the quality head.
        start: the student starts with the teacher's weights, or with its own drawn ones.
        trainable: names in the backbone, of parts (layer4, layer3.23, fc, ...) whose parameters are trained or of
            single parameters (layer3.22.bn3.bias); all else is frozen, its normalisation statistics too. Null:
            everything is trained.
        backbone_group: how the backbone's parameters move; null: as the quality head's.
        check_direction: refuse labels that fall where images of a person resemble each other more; false: only warn.
    """

    ADDED_LATER: ClassVar[dict[str, Any]] = {"check_direction": True}

    needs_head: ClassVar[bool] = False
    needs_teacher: ClassVar[bool] = True

    def __init__(
        self,
        backbone: nn.Module,
        preprocessing: Preprocessing,
        views: Views,
        teacher: Teacher | None,
        representation_weight: Annotated[float, Ge(0)] = 1.0,
        quality_weight: Annotated[float, Ge(0)] = 1.0,
        quality_loss: Literal["smooth_l1", "l1"] = "smooth_l1",
        beta: Annotated[float, Gt(0)] = 0.5,
        hidden: Annotated[int, Ge(1)] = 1024,
        start: Literal["teacher", "scratch"] = "teacher",
        trainable: tuple[str, ...] | None = None,
        backbone_group: BackboneGroup | None = None,
        check_direction: bool = True,
    ) -> None:
        if representation_weight == 0 and quality_weight == 0:
            raise UserError("both weights of AI-KD's loss are 0.", expected="at least one term")
        if teacher is not None and start == "teacher":
            _copy(teacher, backbone, preprocessing)
        if teacher is not None and representation_weight > 0 and teacher.embedding_size != backbone.embedding_size:
            raise UserError(
                f"the embedding of the student has {backbone.embedding_size} numbers, its teacher's "
                f"{teacher.embedding_size}.",
                expected="equal sizes: their cosine is a term of the loss",
                fix=f"backbone.embedding_size={teacher.embedding_size}"
                + (", or method.representation_weight=0" if quality_weight else ""),
            )
        super().__init__(Graded(backbone, hidden), None, preprocessing, views, teacher)
        self.representation_weight = representation_weight
        self.quality_weight = quality_weight
        self.quality_loss = quality_loss
        self.beta = beta
        self.backbone_group = backbone_group
        self.check_direction = check_direction
        if trainable is not None:
            self.frozen = _freeze_all_but(trainable, backbone)
            self.train()  # Lightning leaves each module in the mode in which it finds it
        self.labels: Mapping[str, float] = {}
        if quality_weight == 0:  # ranks would wait for its gradient
            self.backbone.regression.requires_grad_(False)

    def before_training(self, training: TrainingSet) -> None:
        """Label every training image, aligned as the dataset gives it; from the cache where that was done before.

        Broken images are left out where training leaves them out (`on_error=skip`).
        """
        if self.quality_weight == 0:
            return
        assert self.teacher is not None
        if self.teacher.quality is None:
            raise UserError(
                "method=aikd learns quality labels, and its teacher has no source of them.",
                fix="teacher=quality/NAME teacher.run=FOLDER   (kdface list teacher), or method.quality_weight=0",
            )
        faces = Readable(training.faces) if training.on_error == "skip" else training.faces
        labels = quality_labels(self.teacher.quality, self.teacher, faces, check_direction=self.check_direction)
        self.labels = dict(zip(faces.keys, labels.quality.tolist(), strict=True))
        log.info(
            "quality labels of %s: rank correlation with the mean mated cosine %.3f over %d images",
            faces.name,
            labels.rho,
            labels.compared,
        )

    def terms(self, batch: Batch) -> dict[str, Term]:
        """representation: mean 1 - cosine of both embeddings; quality: the distance of the grade from its label."""
        assert self.teacher is not None and self.views.teacher is not None
        student = self.backbone
        assert isinstance(student, Graded)
        embedding = student(self.pixels(batch.views[self.views.student]))
        terms: dict[str, Term] = {}
        metrics: dict[str, Tensor] = {}
        if self.representation_weight > 0:
            target = self.teacher.embed_view(batch.views[self.views.teacher], batch.keys)
            terms["representation"] = Term(cosine_consistency(embedding, target), self.representation_weight)
            metrics["agreement"] = cosine_similarity(embedding.detach().float(), target.float()).mean()
        if self.quality_weight > 0:
            score = student.grade(embedding).float()
            label = torch.tensor([self.labels[key] for key in batch.keys], dtype=torch.float32, device=score.device)
            loss = (
                smooth_l1_loss(score, label, beta=self.beta)
                if self.quality_loss == "smooth_l1"
                else l1_loss(score, label)
            )
            terms["quality"] = Term(loss, self.quality_weight)
            metrics["quality_error"] = (score.detach() - label).abs().mean()
        self.noted = metrics
        return terms

    @property
    def grades(self) -> bool:
        """Whether it learns to grade: `quality_weight` > 0."""
        return self.quality_weight > 0

    def quality(self, images: Tensor, preprocessing: Preprocessing) -> Tensor:
        """(N,) qualities of images. Raises `UserError` for images of another preprocessing."""
        self.preprocessing.require_equal(preprocessing, "the grading network", "the images")
        student = self.embedder
        assert isinstance(student, Graded)
        return student.grade(student(self.pixels(images)))

    def parameter_groups(self) -> list[Any]:
        """The quality head, and the backbone's trained parameters with their own settings."""
        student = self.backbone
        assert isinstance(student, Graded)
        group: dict[str, Any] = {
            "params": [parameter for parameter in student.backbone.parameters() if parameter.requires_grad]
        }
        if self.backbone_group is not None:
            group |= {name: value for name, value in vars(self.backbone_group).items() if value is not None}
        return [
            parameters
            for parameters in ({"params": list(student.regression.parameters())}, group)
            if parameters["params"]
        ]


def _copy(teacher: Teacher, student: nn.Module, seen: Preprocessing) -> None:
    """Copy weights between equal architectures. Raises `UserError` if they are not equal."""
    if isinstance(teacher, StoredTeacher):
        raise UserError(
            "the student starts as a copy of its teacher, and embeddings of a file have no weights.",
            fix="method.start=scratch",
        )
    try:
        student.load_state_dict(teacher.network.state_dict(), strict=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        if seen.size != teacher.preprocessing.size:
            raise UserError(
                f"the student starts as a copy of its teacher, and sees images of {seen.size[0]}x{seen.size[1]}, its "
                f"teacher of {teacher.preprocessing.size[0]}x{teacher.preprocessing.size[1]}: {first}",
                fix="method.start=scratch",
            ) from None
        raise UserError(
            f"the student starts as a copy of its teacher, and their backbones differ: {first}",
            expected="the backbone (and its options) that the teacher's run was trained with",
            fix="backbone=..., or method.start=scratch",
        ) from None


def _freeze_all_but(names: tuple[str, ...], backbone: nn.Module) -> list[nn.Module]:
    """Freeze every parameter that none of the names leads to; returns the modules that must stay in eval mode."""
    parts = [name for name, _ in backbone.named_modules() if name]
    known = [*parts, *(name for name, _ in backbone.named_parameters())]
    for name in names:
        if name not in known:
            raise UserError(
                f"method.trainable holds {name!r}, and the backbone has no such part.",
                expected=f"names of its parts, such as {', '.join(parts[:6])}",
                nearest=nearest(name, known),
            )

    def is_trained(path: str) -> bool:
        return any(path == name or path.startswith(f"{name}.") for name in names)

    for path, parameter in backbone.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and is_trained(path))
    # Dropout holds nothing that training would move, and goes on.
    return [
        module
        for path, module in backbone.named_modules()
        if path and not is_trained(path) and [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    ]
