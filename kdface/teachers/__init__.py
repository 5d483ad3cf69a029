"""Teachers: frozen networks that give embeddings, and sources of face-image quality that give labels."""

from kdface.teachers.frozen import Teacher, from_run, from_weights

__all__ = ["Teacher", "from_run", "from_weights"]
