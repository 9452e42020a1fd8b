"""Seeds for independent random generators, so that the parts of a run do not affect each other's random numbers."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *words: str | int) -> int:
    """Return a seed in [0, 2**63) for one purpose, e.g. `derive_seed(seed, "order", epoch)`.

    The same arguments give the same seed on every machine and Python version. Neighbouring arguments give seeds that
    are unrelated in every bit, which matters because torch's CPU generator uses only the lower 32.
    """
    parts = (int(seed), *(word if isinstance(word, str) else int(word) for word in words))
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
