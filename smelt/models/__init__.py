"""Whole models: the decoder, its construction from a spec, weight rules, and checkpoint directories."""
