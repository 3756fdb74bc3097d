"""Seeds for everything random, derived from the run's one seed and from where training stands."""

import hashlib


def derive_seed(seed: int, *path: int | str) -> int:
    """Return a 63-bit seed for one purpose: `derive_seed(seed, "order", epoch)`.

    Nothing random depends on what ran before, so a resumed run draws what the uninterrupted run would have
    drawn. A cryptographic hash mixes neighbouring numbers well, and is the same on every machine.
    """
    digest = hashlib.blake2b(repr((seed, *path)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
