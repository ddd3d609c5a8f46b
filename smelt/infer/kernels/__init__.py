"""The decode step in numba: one file an idea, from a vector of 16 numbers to the whole step.

Reading order: `vectors`, `tiles`, `products`, `rows` (norms, activations, rounding), `attention`, `team`, `step`.
"""
