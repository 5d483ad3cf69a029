"""Teachers: frozen networks that give embeddings, and sources of face-image quality that give labels."""

from kdface.teachers.frozen import Teacher as Teacher
from kdface.teachers.frozen import from_run, from_weights

# What a configuration may name: a teacher is loaded, or there is none.
__all__ = ["from_run", "from_weights"]
