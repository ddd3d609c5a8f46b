"""Instruction data that a teacher writes: four published methods, filters, and a run that can be killed at any moment.

A method is a generator of waves: it yields requests, is sent their replies, and hands in rows. Everything else follows
from the recipe and the replies alone, so a run that begins again asks nothing twice and ends with the same files. Open
`self_instruct.py` for a method, `filters.py` for what is refused, `prompts.yaml` for what the teacher is told.
"""
