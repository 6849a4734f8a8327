"""Frozen feature extractors: vision transformers by timm's names, and two without a download, "aerial" and "rcf"."""
