"""Scaling laws from a grid of small runs."""
