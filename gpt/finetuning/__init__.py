"""GPT-1: fine-tuning, and what of it helps."""
