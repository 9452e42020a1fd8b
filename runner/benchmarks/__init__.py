"""The measurements of `run bench`. Two alternatives are timed, interleaved, so that drift of the machine cancels.

Each row of the table is a small function that yields a `Comparison`: two callables and a target (see `rows`).
"""
