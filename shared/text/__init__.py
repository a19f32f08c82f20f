"""Text: tokenizers, documents, token files, quality and duplicates."""
