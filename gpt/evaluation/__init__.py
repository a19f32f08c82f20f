"""Zero- and few-shot tasks of GPT-1, GPT-2 and GPT-3."""
