"""Class-agnostic masks: Segment Anything, and a graph segmentation that needs no weights."""
