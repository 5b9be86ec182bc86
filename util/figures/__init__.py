"""Figures for papers: one style, charts of scores, and panels of images."""
