"""Neural network parts on one device: specifications, norms, positions, attention, feed-forward, block, cache.

Nothing here knows a published family, reads the environment or talks to other processes; parallelism is
applied from outside. Each part takes plain values or a frozen spec and can be read on its own.
"""
