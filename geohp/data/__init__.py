"""Where images come from: one's own, the published benchmarks, and TorchGeo."""
