"""kdface: an experiment framework for face recognition with knowledge distillation."""

__version__ = "0.1.0"
