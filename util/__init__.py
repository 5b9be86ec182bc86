"""What every stage shares: files, labels, masks, metrics, figures and command-line habits. Needs no torch."""
