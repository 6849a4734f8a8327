"""The backbone's own features, read by probes alone: the row of every paper that nothing was learnt for."""
