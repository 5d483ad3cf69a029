"""Load weights into a backbone safely and strictly, with errors that list mismatches."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from kdface.backbones.dialects import in_our_names
from kdface.backbones.inferred import COUNTER, nearest_backbone
from kdface.errors import UserError
from kdface.stored import is_plain_tensor, open_file, read_torch

OWNERS = ("backbone.", "model.")  # of a checkpoint that also holds a head; "model." is AdaFace's
WRAPPERS = ("module.", *OWNERS)  # "module." is DataParallel's and DDP's
INSIDE = ("state_dict", "state_dict_backbone")  # the second is used in arcface_torch's resume checkpoints
COMPILED = "_orig_mod."  # prefix of modules compiled by torch.compile, at any depth
CLASSIFIER = "logits."  # the softmax classifier in facenet-pytorch's files
SHOWN = 4  # keys named in a message


def load_weights(backbone: nn.Module, source: str | Path | Mapping[str, Any], origin: str = "the state dict") -> None:
    """Copy weights into `backbone`, in place, from a file or a state dict.

    Accepts a .safetensors file, a bare state dict, or one under the key `state_dict` or arcface_torch's
    `state_dict_backbone`; strips the prefixes `module.`, `backbone.`, `model.` (AdaFace) and `_orig_mod.`; uses only
    the keys under `backbone.` or `model.` if there are any; ignores facenet-pytorch's `logits.*`; translates the names
    of OpenSphere's branches, AdaFace and InsightFace (`kdface.backbones.dialects`); allows `num_batches_tracked` to be
    missing. Everything else must match exactly. No code in a file is executed.

    Raises:
        UserError: the file is missing, unreadable or contains objects; or its weights are not finite, or do not match,
            listing missing, unexpected and differently shaped keys and the most similar backbone.
    """
    theirs = stripped(source if isinstance(source, Mapping) else read_file(Path(source)))
    origin = origin if isinstance(source, Mapping) else str(source)
    expected = backbone.state_dict()
    given = in_our_names(theirs, expected)
    missing = [key for key in expected if key not in given and not key.endswith(COUNTER)]
    unexpected = [key for key in given if key not in expected]
    reshaped = [
        f"{key} {tuple(given[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if key in given and given[key].shape != value.shape
    ]
    if missing or unexpected or reshaped:
        rows = (("missing", missing), ("unexpected", unexpected), ("other shape", reshaped))
        raise UserError(
            f"The weights do not fit {type(backbone).__name__}: " + "; ".join(_listed(*row) for row in rows if row[1]),
            expected=f"{len(expected)} entries for an embedding of {backbone.embedding_size}"
            + (" and images of {}x{}".format(*size) if (size := getattr(backbone, "image_size", ())) else ""),
            nearest=nearest_backbone(theirs),
            origin=origin,
            fix="use the backbone, embedding_size and image size these weights were trained with",
        )
    if broken := [key for key, value in given.items() if value.is_floating_point() and not value.isfinite().all()]:
        raise UserError(f"{origin}: {_listed('of not finite values', broken)}, so the network is of no use.")
    backbone.load_state_dict(given, strict=False)  # strictness is checked above; counters may be missing


def _listed(what: str, keys: list[str]) -> str:
    more = f", and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return f"{len(keys)} {what} ({', '.join(keys[:SHOWN])}{more})"


def read_file(path: Path) -> Mapping[str, Any]:
    """Read a weight file. Raises `UserError` if it is not a mapping of plain tensors; nothing is executed."""
    if not path.is_file():
        raise UserError(f"There is no weight file {path}.", fix="check the path, or download the weights first")
    if path.suffix.lower() == ".safetensors":
        return read_safetensors(path)[0]
    try:
        loaded = read_torch(path)
    except (UnpicklingError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read as plain tensors: it is no PyTorch weight file, is cut short, or holds "
            "objects whose loading could execute code.",
            expected="a file written by torch.save(module.state_dict())",
            fix="download the file again, or save only the state dict if you trust it",
        ) from error
    if not isinstance(loaded, Mapping):
        raise UserError(f"{path} holds a {type(loaded).__name__}.", expected="a state dict")
    return loaded


def digest_of(weights: Mapping[str, Tensor], about: str = "") -> str:
    """SHA-256 over names, shapes, types and bytes of weights, sorted by name, and a text about them."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    digest.update(about.encode())
    return digest.hexdigest()


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and metadata of a .safetensors file. Raises `UserError` for other files."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        open_file(path).close()  # a pipe would block
        with safe_open(path, "pt") as file:
            return load_file(path), file.metadata() or {}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read as safetensors: {error}.", fix="download the file again, or export it again"
        ) from None


def stripped(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The backbone's entries in a file's content, without prefixes and without a classifier's.

    Raises `UserError` if they are not dense tensors.
    """
    within = next((wrapper for wrapper in INSIDE if wrapper in state), None)
    inner = state if within is None else state[within]
    if not isinstance(inner, Mapping):
        raise UserError(f"'{within}' is a {type(inner).__name__}.", expected="a mapping of key to tensor")
    bare = {key: str(key).replace(COMPILED, "").removeprefix("module.") for key in inner}
    owned = next(
        (mine for owner in OWNERS if (mine := {key: name for key, name in bare.items() if name.startswith(owner)})), {}
    )
    found: dict[str, Tensor] = {}
    for key, name in (owned or bare).items():
        while name.startswith(WRAPPERS):
            name = name.split(".", 1)[1]
        value = inner[key]
        if not is_plain_tensor(value):
            raise UserError(
                f"The entry '{key}' is a {type(value).__name__}, not a dense tensor.",
                expected="a state dict, bare or under the key 'state_dict'",
            )
        if not name.startswith(CLASSIFIER):
            found[name] = value
    return found
