"""Whole models: the transformer, alone or as encoder and decoder, its construction from a spec, weight rules, and
checkpoint directories.

`build(spec, seed=..)` makes a new model, `hub` reads and writes directories, `families` says how published
configurations and weights read. The network itself knows none of them.
"""
