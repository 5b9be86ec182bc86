"""Finding and loading checkpoints, and segmenting images with them."""
