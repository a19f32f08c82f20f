"""Data modules whose sample k of epoch e is a pure function of (seed, e, k)."""
