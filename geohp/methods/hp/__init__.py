"""Hidden Positives (arXiv 2303.15014): the contrastive loss and the parts it is made of."""
