"""The measurements of `run bench`. Timings of two alternatives are interleaved, so that drift of the machine cancels.

Each row of the table is a small function that yields a `Comparison`: two callables and a target (see `rows`).
"""
