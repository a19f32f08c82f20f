"""Families too small to be useful, for what `zoo verify` must prove of losses that no real family has yet."""
