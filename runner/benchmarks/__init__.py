"""What `run bench` measures, and how: two things in turn, so that drift of the machine cancels.

A row of the table is one small function that yields a `Comparison`: two callables, and what to reach (see `rows`).
"""
