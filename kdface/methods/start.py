"""Weights to start from: of a published file, or of a run on other people. The head is drawn anew."""

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
    """Weights for a backbone."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 of the weights."""

    @abstractmethod
    def load_into(self, backbone: nn.Module, sees: Preprocessing) -> None:
        """Copy the weights into a backbone that will see such images.

        Raises `UserError`, listing the keys, if they do not fit, and if they were trained on other images.
        """


class _File(Start):
    def __init__(self, file: Path) -> None:
        self.file = file

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(read_bytes(self.file, _LARGEST)).hexdigest()

    def load_into(self, backbone: nn.Module, sees: Preprocessing) -> None:
        del sees  # a file does not say what its network saw
        load_weights(backbone, self.file)


class _Run(Start):
    def __init__(self, network: Teacher, run: Path) -> None:
        self.network = network
        self.run = run

    @property
    def fingerprint(self) -> str:
        return self.network.fingerprint

    def load_into(self, backbone: nn.Module, sees: Preprocessing) -> None:
        self.network.preprocessing.require_equal(sees, f"the network of {self.run}", "the one that starts from it")
        load_weights(backbone, self.network.network.state_dict(), str(self.run))


def from_file(file: Path) -> Start:
    """The weights of a file; see `kdface.backbones.load_weights`."""
    return _File(file)


def from_run(run: Path, load_network: LoadNetwork) -> Start:
    """The network that a run ships: the average of its weights, if it kept one."""
    return _Run(load_network(run), run)
