"""Frozen feature extractors: vision transformers by timm's names, and random convolutional features ("rcf")."""
