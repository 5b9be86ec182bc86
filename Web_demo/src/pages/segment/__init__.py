"""The page Segment: a network, images, and what it sees in them."""
