"""Fuzzing of every reader with damaged copies of real files: `python -m benchmarks.fuzz`. A reader returns a value, or
refuses in one sentence; it never raises anything else, crashes, hangs or writes a file."""
