"""kdface: an experiment framework for face recognition with knowledge distillation."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # its import would look for a newer release on the network

__version__ = "0.1.0"
