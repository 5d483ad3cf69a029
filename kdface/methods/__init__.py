"""Methods: LightningModules that compute a loss from a batch of views."""

from kdface.methods.aikd import AIKD
from kdface.methods.base import Method, Term
from kdface.methods.ckd import CKD
from kdface.methods.distillation import Distillation
from kdface.methods.facenet import FaceNet
from kdface.methods.harmonic import Harmonic
from kdface.methods.maskinv import MaskInv
from kdface.methods.networks import Views
from kdface.methods.optimization import Optimization
from kdface.methods.spherefacer import SphereFaceR

__all__ = [
    "AIKD",
    "CKD",
    "Distillation",
    "FaceNet",
    "Harmonic",
    "MaskInv",
    "Method",
    "Optimization",
    "SphereFaceR",
    "Term",
    "Views",
]
