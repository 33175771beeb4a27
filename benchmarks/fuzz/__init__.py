"""Damaged files for every reader, made of real ones: `python -m benchmarks.fuzz`. A reader answers with a value or with
one sentence; never with a traceback, a crash, a hang, or a file of its own."""
