"""Base class of the backbones: image to embedding, composed of named stages."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated

from annotated_types import Ge, Le, Lt
from torch import Tensor, nn

from kdface.errors import UserError, nearest

EmbeddingSize = Annotated[int, Ge(1), Le(65536)]
Dropout = Annotated[float, Ge(0), Lt(1)]
ImageSize = tuple[int, int]  # (height, width) in pixels


class Backbone(nn.Module):
    """Base class of the backbones: runs its submodules in order, grouped into stages.

    Subclasses register submodules under the names of the published weights and define `layout`, which groups
    them: `{"stem": ("conv1", "bn1", "prelu"), "layer1": ("layer1",), ...}`. `forward` is their composition in
    that order, so stage outputs can be read as feature maps without hooks.

    Args:
        embedding_size: length D of the embedding.
        image_size: (height, width) in pixels of the images this network is built for.
        smallest: minimum side in pixels that leaves every feature map at least one cell.
        layout: stage name -> names of its submodules.
    """

    embedding_size: int
    image_size: ImageSize

    def __init__(
        self, embedding_size: int, image_size: ImageSize, smallest: int, layout: Mapping[str, tuple[str, ...]]
    ) -> None:
        super().__init__()
        if embedding_size < 1:
            raise UserError(f"embedding_size is {embedding_size}.", expected="a whole number of at least 1")
        if min(image_size) < smallest:
            raise UserError(
                f"{type(self).__name__} cannot be built for {image_size[0]}x{image_size[1]} images.",
                expected=f"height and width of at least {smallest}",
                fix="use a larger image size for the dataset",
            )
        self.embedding_size = embedding_size
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.layout = dict(layout)

    def stages(self) -> list[tuple[str, nn.Module]]:
        """The stages in order; running them in sequence is `forward`.

        The modules are shared with the network, so a stage can be frozen, or its output distilled.
        """
        stages: list[tuple[str, nn.Module]] = []
        for stage, names in self.layout.items():
            parts = [self.get_submodule(name) for name in names]
            stages.append((stage, parts[0] if len(parts) == 1 else nn.Sequential(*parts)))
        return stages

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) normalised images -> (N, D) embeddings, not normalised.

        Raises `ValueError` if the image size is not the one the network was built for.
        """
        if images.shape[1:] != (3, *self.image_size):
            raise ValueError(
                f"{type(self).__name__} is built for images of shape (N, 3, {self.image_size[0]}, "
                f"{self.image_size[1]}); got {tuple(images.shape)}"
            )
        features = images
        for names in self.layout.values():
            for name in names:
                features = getattr(self, name)(features)
        return features

    def with_maps(self, images: Tensor, stages: Collection[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """(N, 3, H, W) -> (N, D) embeddings, as in `forward`, and the outputs of the named stages.

        Raises `UserError` for an unknown stage.
        """
        for stage in stages:
            if stage not in self.layout:
                raise UserError(
                    f"{type(self).__name__} has no stage {stage!r}.",
                    expected=f"one of {', '.join(self.layout)}",
                    nearest=nearest(stage, list(self.layout)),
                )
        maps: dict[str, Tensor] = {}
        features = images
        for stage, module in self.stages():
            features = module(features)
            if stage in stages:
                maps[stage] = features
        return features, maps


def halved(size: ImageSize, times: int) -> ImageSize:
    """(height, width) after `times` stride-2 layers padded by k // 2, each n -> ceil(n/2)."""
    divisor = 2**times
    return -(-size[0] // divisor), -(-size[1] // divisor)
