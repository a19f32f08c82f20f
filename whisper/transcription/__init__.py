"""Whole recordings: segments, words, and what became of every second."""
