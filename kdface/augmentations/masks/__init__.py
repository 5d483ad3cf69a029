"""How an occluder is drawn: outline, relief and texture make a sprite once; a camera and the light place it on a face.

Lengths are in pixels of the 112x112 ArcFace template throughout: u to the right of the face's axis, y downwards.
"""
