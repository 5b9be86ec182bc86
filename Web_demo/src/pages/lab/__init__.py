"""The page Strategy lab: merge strategies on single images and on all."""
