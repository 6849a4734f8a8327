"""Hidden Positives (arXiv 2303.15014): the contrastive loss and the parts it is made of."""

from geohp.backbones.affinities import neighbour_affinities
from geohp.methods.hp.head import EMAHead, SegmentationHead
from geohp.methods.hp.loss import contrastive_loss
from geohp.methods.hp.mixing import mix_neighbours
from geohp.methods.hp.positives import ReferencePool

__all__ = [
    "EMAHead",
    "ReferencePool",
    "SegmentationHead",
    "contrastive_loss",
    "mix_neighbours",
    "neighbour_affinities",
]
