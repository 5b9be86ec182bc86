"""Finding and loading checkpoints, and segmenting pictures with them."""
