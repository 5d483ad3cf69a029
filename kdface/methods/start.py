"""Initial weights: from a published file, or from a run on other people. The head is reinitialised."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from pathlib import Path

from torch import nn

from kdface.backbones import load_weights
from kdface.datasets.images import read_bytes
from kdface.faces import Preprocessing
from kdface.teachers.frozen import LoadNetwork, Teacher

__all__ = ["from_file", "from_run"]

_LARGEST = 8 << 30  # bytes of a file


class Start(ABC):
    """Initial weights of a backbone."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 of the weights."""

    @abstractmethod
    def load_into(self, backbone: nn.Module, sees: Preprocessing) -> None:
        """Copy the weights into a backbone that will be trained on images with the preprocessing `sees`.

        Raises `UserError` if the weights do not fit (listing the keys), or were trained with another preprocessing.
        """


class _File(Start):
    def __init__(self, file: Path) -> None:
        self.file = file

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(read_bytes(self.file, _LARGEST)).hexdigest()

    def load_into(self, backbone: nn.Module, sees: Preprocessing) -> None:
        del sees  # a file does not state its preprocessing
        load_weights(backbone, self.file)


class _Run(Start):
    def __init__(self, network: Teacher, run: Path) -> None:
        self.network = network
        self.run = run

    @property
    def fingerprint(self) -> str:
        return self.network.fingerprint

    def load_into(self, backbone: nn.Module, sees: Preprocessing) -> None:
        self.network.preprocessing.require_equal(sees, f"the network of {self.run}", "the network initialised from it")
        load_weights(backbone, self.network.network.state_dict(), str(self.run))


def from_file(file: Path) -> Start:
    """Weights from a file; see `kdface.backbones.load_weights`."""
    return _File(file)


def from_run(run: Path, load_network: LoadNetwork) -> Start:
    """A run's exported network: the average of its weights, if it has one."""
    return _Run(load_network(run), run)
