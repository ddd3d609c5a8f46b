"""The ground every other package stands on: errors, recipes, the machine, files, logging.

Nothing here imports another smelt package, and nothing here imports torch at import time, so that
`smelt --help` stays quick.
"""
