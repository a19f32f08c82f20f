"""Autoregressive decoding: what is drawn from the logits, and the loops around the model."""
