"""Random numbers that are functions of (seed, stream, number): without state, so that everything can be replayed."""

from __future__ import annotations

from statistics import NormalDist

_MASK = (1 << 64) - 1
_NORMAL = NormalDist()


def _mixed(x: int) -> int:
    """The finaliser of splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014)."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def uniform(seed: int, stream: int, number: int) -> float:
    """Between 0 and 1, both excluded."""
    x = _mixed(_mixed((seed * 0x9E3779B97F4A7C15 + stream) & _MASK) + number * 0x9E3779B97F4A7C15 & _MASK)
    return ((x >> 11) + 0.5) / (1 << 53)


def sign(seed: int, stream: int, number: int) -> int:
    """-1 or 1."""
    return 1 if uniform(seed, stream, number) < 0.5 else -1


def gaussian(seed: int, stream: int, number: int) -> float:
    """A number of the standard normal distribution."""
    return _NORMAL.inv_cdf(uniform(seed, stream, number))


def spread(number: int, width: int) -> tuple[float, ...]:
    """Point `number` of a sequence that fills the unit cube of `width` dimensions evenly.

    Roberts' generalised golden ratio: as even as Sobol's for few points, in two lines.
    """
    root = 1.5
    for _ in range(40):
        root = (1 + root) ** (1 / (width + 1))
    return tuple((0.5 + (number + 1) / root ** (i + 1)) % 1 for i in range(width))
