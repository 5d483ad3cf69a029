"""Build the objects of a checked configuration."""
