"""From what people upload to images that can be segmented."""
