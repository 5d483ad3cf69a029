"""Datasets: readers of faces on disk, and generated faces of nobody. Each is a `kdface.faces.FaceSet`."""

from kdface.datasets.bin_pairs import BinPairs
from kdface.datasets.ckd_folders import CKDFolders
from kdface.datasets.degraded import JPEG, Pixels
from kdface.datasets.ijb import IJB
from kdface.datasets.image_folder import ImageFolder
from kdface.datasets.images_per_person import ImagesPerPerson
from kdface.datasets.raw_folder import RawFolder
from kdface.datasets.recordio import RecordIO
from kdface.datasets.resized import Resized
from kdface.datasets.seen import Seen
from kdface.datasets.subset import HeldOut, PeopleWith, Subset
from kdface.datasets.toy_faces import ToyFaces

__all__ = [
    "IJB",
    "JPEG",
    "BinPairs",
    "CKDFolders",
    "HeldOut",
    "ImageFolder",
    "ImagesPerPerson",
    "PeopleWith",
    "Pixels",
    "RawFolder",
    "RecordIO",
    "Resized",
    "Seen",
    "Subset",
    "ToyFaces",
]
