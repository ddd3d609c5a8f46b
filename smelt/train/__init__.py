"""One training loop, and what it is fed: sources, objectives, checkpoints, stages."""
