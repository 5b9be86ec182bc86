"""Scores, their intervals, and reports of them."""
