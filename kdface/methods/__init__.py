"""Methods: what a batch of views is worth as a loss. The only room that knows LightningModules."""

from kdface.methods.base import Method, Optimization, Term, Views
from kdface.methods.facenet import FaceNet
from kdface.methods.spherefacer import SphereFaceR

__all__ = ["FaceNet", "Method", "Optimization", "SphereFaceR", "Term", "Views"]
