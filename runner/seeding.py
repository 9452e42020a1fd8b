"""Seeds for private random generators, so that no part of a run disturbs another's random numbers."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *words: str | int) -> int:
    """A seed in [0, 2**63) for one purpose, e.g. `derive_seed(seed, "order", epoch)`.

    The same arguments give the same number on every machine and Python version; neighbouring ones give unrelated
    numbers, in every bit (torch's CPU generator looks at the lower 32 only).
    """
    parts = (int(seed), *(word if isinstance(word, str) else int(word) for word in words))
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
