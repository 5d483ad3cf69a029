"""Teachers: frozen networks that compute embeddings, and sources of face-image quality labels."""

from kdface.teachers.frozen import Teacher as Teacher
from kdface.teachers.frozen import from_file, from_run, from_weights
from kdface.teachers.stored import StoredTeacher as StoredTeacher
from kdface.teachers.stored import from_embeddings

# Available to configurations: a teacher is loaded or there is none.
__all__ = ["from_embeddings", "from_file", "from_run", "from_weights"]
