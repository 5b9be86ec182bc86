"""From image-level labels to class activation maps and pseudo labels."""
