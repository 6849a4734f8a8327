"""One's own imagery: found, shared out between training and testing, cut into patches, labelled where labels are."""
