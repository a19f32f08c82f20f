"""GPT-1, GPT-2, GPT-3 and Talkie."""
