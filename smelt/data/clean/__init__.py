"""What is wrong with data that can be read: rows that stand there twice, traces of people, and what filters refuse.

Everything here looks at texts alone, needs nothing beyond the base install, and is small enough to be read.
"""
