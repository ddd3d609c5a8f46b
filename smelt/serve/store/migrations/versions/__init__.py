"""One file a step, each with the way up and the way down; never changed once released."""
