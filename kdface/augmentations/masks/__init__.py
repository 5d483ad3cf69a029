"""Drawing of occluders: outline, relief and texture are rendered to a sprite once; camera and light fit it to a face.

All lengths are in pixels of the 112x112 ArcFace template: u to the right of the face's axis, y downwards.
"""
