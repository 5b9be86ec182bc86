"""What is read and written: ids, images, labels, masks, CAMs, tags, class tables."""
