"""Tuning that leaves the model as it is: what an adapter adds to a model, and the files it is kept in."""
