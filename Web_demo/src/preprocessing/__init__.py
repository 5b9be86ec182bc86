"""From what people upload to pictures that can be segmented."""
