"""Networks for two or more modalities of one face that share their first stages."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdface.backbones.backbone import Backbone
from kdface.backbones.pooled_norm import PooledBatchNorm
from kdface.backbones.synchronised_norm import synchronise
from kdface.errors import UserError

Norm = Literal["pooled", "modality_statistics", "modality_specific", "frozen"]
Stages = Annotated[int, Ge(0)]


class Paired(nn.Module):
    """Ties the first stages of networks built for images of different sizes.

    Convolutions and all other weighted layers in the shared stages process the modalities separately with the same
    weights. `norm` selects the behaviour of their batch normalisations in training:

        pooled               joint statistics over all modalities (`PooledBatchNorm`): CKD
        modality_statistics  separate statistics per modality, in the order of `networks`; one affine map and one
                             running buffer, updated by all modalities in turn (the official ablation)
        modality_specific    not shared: each modality has its own affine map and running buffer
        frozen               the running buffers as given, not updated

    In evaluation each modality is computed separately (`path`), with the same embeddings as jointly. The state dict
    contains the shared layers once, `shared.NAME`, and each modality's, `own.ROLE.NAME`, by the network's names.

    Args:
        networks: role -> network, all of one architecture, in order of computation. Shared layers are taken from the
            first one.
        shared: number of shared stages (`Backbone.stages`, starting with the stem). 0: none.
        norm: see above.
        synchronised: take the statistics of all stages, shared or not, over all ranks
            (`kdface.backbones.synchronised_norm.synchronise` does the same to an existing pair).

    Raises:
        UserError: the architectures differ, or a stage to share does not fit both.
    """

    def __init__(
        self, networks: Mapping[str, nn.Module], shared: Stages, norm: Norm = "pooled", synchronised: bool = False
    ) -> None:
        super().__init__()
        self.norm = norm
        self.networks: dict[str, Backbone] = {}  # not registered; their layers are, below
        for role, network in networks.items():
            if not isinstance(network, Backbone):
                raise UserError(f"{type(network).__name__} has no stages to share.", expected="a kdface backbone")
            self.networks[role] = network
        first = next(iter(self.networks.values()))
        names = _names_of_stages(first, shared)
        for role, network in list(self.networks.items())[1:]:
            _tie(first, network, names, role, with_norms=norm != "modality_specific")
        self.shared = _tree(
            (name, layer)
            for name, layer in _layers(first)
            if all(other.get_submodule(name) is layer for other in self.networks.values())
        )
        held = set(self.shared.modules())
        self.own = nn.ModuleDict(
            {
                role: _tree((name, layer) for name, layer in _layers(network) if layer not in held)
                for role, network in self.networks.items()
            }
        )
        self._branch_names = [name for part in first.layout.values() for name in part if name not in names]
        self._trunk: list[fx.GraphModule] = []  # in a list, so that its layers are not registered twice
        if norm == "pooled" and names:
            trunk = nn.Sequential(OrderedDict((name, first.get_submodule(name)) for name in names))
            self._trunk.append(lockstep(trunk, list(self.networks)))
            if len({network.image_size for network in self.networks.values()}) == 1:
                self._trunk.append(lockstep(trunk, [next(iter(self.networks))], copies=len(self.networks)))
        self.train(self.training)
        if synchronised:
            synchronise(self)

    def path(self, role: str) -> Backbone:
        """One modality's complete network, an ordinary backbone that includes the shared layers."""
        return self.networks[role]

    def unregistered(self) -> list[nn.Module]:
        """The modules used for computation, whose layers are registered in `shared` and `own`."""
        return [*self.networks.values(), *self._trunk]

    def forward(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """role -> (N, 3, H, W) normalised images of that role's size, to role -> (N, D) embeddings, not normalised.

        If all roles get the same tensor, a pooled trunk runs only once, with the same results.

        Raises `ValueError` if the size of images is not the one their network was built for.
        """
        if not (self._trunk and self.training):
            return {role: network(images[role]) for role, network in self.networks.items()}
        for role, network in self.networks.items():
            if images[role].shape[1:] != (3, *network.image_size):
                raise ValueError(
                    f"{role}: built for images of shape (N, 3, {network.image_size[0]}, {network.image_size[1]}); "
                    f"got {tuple(images[role].shape)}"
                )
        one = next(iter(images.values()))
        if all(image is one for image in images.values()):
            maps = self._trunk[1](one) * len(self.networks)
        else:
            maps = self._trunk[0](*(images[role] for role in self.networks))
        embeddings: dict[str, Tensor] = {}
        for (role, network), features in zip(self.networks.items(), maps, strict=True):
            for name in self._branch_names:
                features = getattr(network, name)(features)
            embeddings[role] = features
        return embeddings

    def train(self, mode: bool = True) -> Paired:
        """As `nn.Module.train`, for all networks; frozen norms stay in eval mode."""
        super().train(mode)
        for network in self.networks.values():
            network.train(mode)
        for module in self.shared.modules():
            if self.norm == "frozen" and isinstance(module, _BatchNorm):
                module.eval()
        return self


def lockstep(trunk: nn.Module, roles: list[str], copies: int = 1) -> fx.GraphModule:
    """`trunk` for several inputs at once: (x_1, ..., x_k) -> (y_1, ..., y_k), batch normalisations pooled.

    The trunk is traced once. Every operation is replicated for each input, and each batch normalisation becomes one
    operation on all of them, fused with the ReLU if that is its only consumer. The layers are shared with the trunk.
    `copies` is that of `PooledBatchNorm`.
    """
    layers = dict(trunk.named_modules())
    joint = fx.Graph()
    norms: dict[str, nn.Module] = {}
    made: dict[fx.Node, list[fx.Node]] = {}
    for node in _LayerTracer().trace(trunk).nodes:
        layer = layers.get(node.target) if node.op == "call_module" else None
        if node in made:  # a ReLU fused into its normalisation
            continue
        if node.op == "placeholder":
            made[node] = [joint.placeholder(f"{node.name}_{role}") for role in roles]
        elif node.op == "output":
            joint.output(tuple(made[node.args[0]]))
        elif isinstance(layer, _BatchNorm):
            after = next(iter(node.users))
            rectified = len(node.users) == 1 and _is_relu(after, layers)
            readers = (after if rectified else node).users
            owned = all(isinstance(layers.get(str(reader.target)), nn.Conv2d) for reader in readers)
            norms[node.target] = PooledBatchNorm(layer, rectified, owned=owned, copies=copies)
            together = joint.call_module(node.target, tuple(made[node.args[0]]))
            made[node] = [joint.call_function(operator.getitem, (together, k)) for k in range(len(roles))]
            if rectified:
                made[after] = made[node]
        else:
            made[node] = [joint.node_copy(node, _each(made, k)) for k in range(len(roles))]
    return fx.GraphModule({**_called(joint, layers), **norms}, joint)


def _each(made: Mapping[fx.Node, list[fx.Node]], modality: int) -> Callable[[fx.Node], fx.Node]:
    return lambda node: made[node][modality]


class _LayerTracer(fx.Tracer):
    """Traces into modules down to their layers."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        del module_qualified_name
        return _is_layer(m)


def _called(graph: fx.Graph, layers: Mapping[str, nn.Module]) -> dict[str, Any]:
    names = {str(node.target) for node in graph.nodes if node.op == "call_module"}
    return {name: layers[name] for name in names}


def _is_relu(node: fx.Node, layers: Mapping[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(layers[str(node.target)], nn.ReLU)
    return node.target in ("relu", "relu_", torch.relu, nn.functional.relu)


def _is_layer(module: nn.Module) -> bool:
    """Whether a module has no children, or has direct weights."""
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return bool(own) or next(module.children(), None) is None


def _layers(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Name and module of every layer, in order of registration."""
    for name, child in module.named_children():
        if _is_layer(child):
            yield prefix + name, child
        else:
            yield from _layers(child, f"{prefix}{name}.")


def _tree(layers: Iterator[tuple[str, nn.Module]]) -> nn.Module:
    """A module that only holds layers under their dotted names."""
    root = nn.Module()
    for path, layer in layers:
        parent = root
        *folders, name = path.split(".")
        for folder in folders:
            if folder not in dict(parent.named_children()):
                parent.add_module(folder, nn.Module())
            parent = parent.get_submodule(folder)
        parent.add_module(name, layer)
    return root


def _names_of_stages(network: Backbone, count: int) -> list[str]:
    if count > len(network.layout):
        raise UserError(
            f"{count} stages are to be shared, but {type(network).__name__} has {len(network.layout)}.",
            expected=f"at most {len(network.layout)}: {', '.join(network.layout)}",
        )
    return [name for parts in list(network.layout.values())[:count] for name in parts]


def _tie(first: Backbone, other: Backbone, names: list[str], role: str, with_norms: bool) -> None:
    """Replace the layers of `other` by those of `first`."""
    if first.layout != other.layout or [name for name, _ in _layers(first)] != [name for name, _ in _layers(other)]:
        raise UserError("different architectures cannot share stages.", expected="one backbone for all roles")
    for name, layer in list(_layers(other)):
        if name.split(".")[0] not in names or (isinstance(layer, _BatchNorm) and not with_norms):
            continue
        donor = first.get_submodule(name)
        shapes = [[tuple(parameter.shape) for parameter in part.parameters()] for part in (donor, layer)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"{name} cannot be shared: its weights have shapes {shapes[0]} for images of {first.image_size[0]}x"
                f"{first.image_size[1]} and {shapes[1]} for {other.image_size[0]}x{other.image_size[1]} ({role}).",
                fix="share fewer stages",
            )
        path, _, last = name.rpartition(".")
        setattr(other.get_submodule(path), last, donor)
