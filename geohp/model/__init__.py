"""The land-cover model: network and card, the one file it lives in, and models of other projects."""
