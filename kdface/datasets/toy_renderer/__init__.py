"""A parametric renderer of invented faces, aligned to the ArcFace template.

person = draw_person(rng)
image, landmarks = render(person, draw_shot(rng, person), (112, 112), rng)
"""

from kdface.datasets.toy_renderer.face import render
from kdface.datasets.toy_renderer.person import Person, draw_person
from kdface.datasets.toy_renderer.shot import Shot, draw_shot

__all__ = ["Person", "Shot", "draw_person", "draw_shot", "render"]
