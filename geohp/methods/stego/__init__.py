"""STEGO (arXiv 2203.08414): a head whose codes correspond where the backbone's features do."""
