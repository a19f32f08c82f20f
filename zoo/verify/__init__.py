"""Proofs that training can be trusted: what ``zoo verify`` checks, one module per check."""
