"""The command line: one file a verb, imported only when the verb is asked for.

A verb reads its words, calls one function of the packages and shows what came back; whatever it does, Python code can
do with the same function. Results go to stdout, progress and errors to stderr.
"""
