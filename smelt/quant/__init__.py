"""Weights in fewer bits: what a quantized layer keeps, and how it is multiplied."""
