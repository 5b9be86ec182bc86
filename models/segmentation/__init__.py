"""DeepLabV3+: data, training, prediction."""
