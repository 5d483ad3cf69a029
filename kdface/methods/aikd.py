"""AI-KD: an alignment-invariant quality score, distilled from a frozen recognition network and quality labels."""

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
    """Optimiser settings of the backbone, if they differ from the quality head's.

    Attributes:
        lr_scale: learning rate as a multiple of the optimiser's.
        momentum, weight_decay: null: the optimiser's.
    """

    lr_scale: Annotated[float, Ge(0)] = 1.0
    momentum: Annotated[float, Ge(0)] | None = None
    weight_decay: Annotated[float, Ge(0)] | None = None


class AIKD(Method):
    """AI-KD (Babnik, Boutros, Damer, Peer, Struc, "AI-KD: Towards Alignment Invariant Face Image Quality Assessment
    Using Knowledge Distillation", IWBF 2024).

    The student sees only the perturbed crop. From the aligned crop the frozen teacher computes the embedding e, and the
    teacher's quality source the label q in [0, 1], once before training:

        loss = representation_weight * mean(1 - cos(e_student, e)) + quality_weight * mean(l(q_student - q)),

    with l Smooth-L1 (beta = 0.5: d^2 if |d| < 0.5, else |d| - 0.25) as in the published code, or L1 as in the paper's
    figure. The student starts as a copy of the teacher.

    Logs `agreement` (mean cosine of student and teacher) and `quality_error` (mean |q_student - q|).

    Args:
        representation_weight, quality_weight: weights of the two terms.
        quality_loss, beta: see above.
        hidden: width of the quality head.
        start: initialise the student with the teacher's weights, or randomly.
        trainable: names of backbone modules (layer4, layer3.23, fc, ...) or single parameters (layer3.22.bn3.bias) to
            train; everything else is frozen, including its normalisation statistics. Null: train everything.
        backbone_group: optimiser settings of the backbone; null: as the quality head's.
        check_direction: reject labels that decrease as images of a person become more similar; false: only warn.
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
            raise UserError("both loss weights of AI-KD are 0.", expected="at least one term")
        if teacher is not None and start == "teacher":
            _copy(teacher, backbone, preprocessing)
        if teacher is not None and representation_weight > 0 and teacher.embedding_size != backbone.embedding_size:
            raise UserError(
                f"the student's embedding has {backbone.embedding_size} components, its teacher's "
                f"{teacher.embedding_size}.",
                expected="equal sizes: their cosine is a loss term",
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
            self.train()  # Lightning keeps each module's mode
        self.labels: Mapping[str, float] = {}
        if quality_weight == 0:  # otherwise DDP would wait for its gradient
            self.backbone.regression.requires_grad_(False)

    def before_training(self, training: TrainingSet) -> None:
        """Label every training image, aligned as in the dataset, or load cached labels.

        Skips broken images if training does (`on_error=skip`).
        """
        if self.quality_weight == 0:
            return
        assert self.teacher is not None
        if self.teacher.quality is None:
            raise UserError(
                "method=aikd learns quality labels, but its teacher has no quality source.",
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

    def on_fit_start(self) -> None:
        """As in `Method`. Raises `UserError` if there are no quality labels, as the training set is unknown."""
        super().on_fit_start()
        if self.quality_weight > 0 and not self.labels:
            data = getattr(self.trainer, "datamodule", None)
            raise UserError(
                "method=aikd needs a quality label of every training image, but the training set of "
                f"{'a bare loader' if data is None else type(data).__name__} is unknown.",
                expected="the datamodule of kdface.build, or one whose attribute `training` is a "
                "kdface.datasets.loading.TrainingSet",
                fix="call module.prepare(training_set) before the Trainer's fit",
            )

    def terms(self, batch: Batch) -> dict[str, Term]:
        """representation: mean 1 - cosine of both embeddings; quality: distance of predicted quality and label, in
        training only, as only training images have labels."""
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
        if self.quality_weight > 0 and self.training:
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
        """Whether it learns to predict quality: `quality_weight` > 0."""
        return self.quality_weight > 0

    def quality(self, images: Tensor, preprocessing: Preprocessing) -> Tensor:
        """Quality scores (N,) of images. Raises `UserError` if their preprocessing differs."""
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
            "the student starts as a copy of its teacher, but embeddings from a file have no weights.",
            fix="method.start=scratch",
        )
    try:
        student.load_state_dict(teacher.network.state_dict(), strict=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        if seen.size != teacher.preprocessing.size:
            raise UserError(
                f"the student starts as a copy of its teacher, but sees images of {seen.size[0]}x{seen.size[1]}, its "
                f"teacher of {teacher.preprocessing.size[0]}x{teacher.preprocessing.size[1]}: {first}",
                fix="method.start=scratch",
            ) from None
        raise UserError(
            f"the student starts as a copy of its teacher, but their backbones differ: {first}",
            expected="the backbone (and its options) of the teacher's run",
            fix="backbone=..., or method.start=scratch",
        ) from None
    theirs = teacher.preprocessing
    if (theirs.color, theirs.mean, theirs.std) != (seen.color, seen.mean, seen.std):
        raise UserError(
            "the student starts as a copy of its teacher, but its images have other colours or another scale: "
            f"{seen.color}, mean {seen.mean:g}, std {seen.std:g}; the teacher's {theirs.color}, mean {theirs.mean:g}, "
            f"std {theirs.std:g}.",
            expected="a teacher with the colour order, mean and std of the training images",
            fix="method.start=scratch",
        )


def _freeze_all_but(names: tuple[str, ...], backbone: nn.Module) -> list[nn.Module]:
    """Freeze every parameter that no name selects; return the modules that must stay in eval mode."""
    parts = [name for name, _ in backbone.named_modules() if name]
    known = [*parts, *(name for name, _ in backbone.named_parameters())]
    for name in names:
        if name not in known:
            raise UserError(
                f"method.trainable contains {name!r}, but the backbone has no such part.",
                expected=f"names of its parts, such as {', '.join(parts[:6])}",
                nearest=nearest(name, known),
            )

    def is_trained(path: str) -> bool:
        return any(path == name or path.startswith(f"{name}.") for name in names)

    for path, parameter in backbone.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and is_trained(path))
    # Dropout has no state to freeze and stays active.
    return [
        module
        for path, module in backbone.named_modules()
        if path and not is_trained(path) and [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    ]
