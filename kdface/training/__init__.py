"""Train a run in its folder: the Trainer, ranks, interruption, and the identity that lets it resume."""
