"""Backbones of KerasHub, from presets. Needs no TensorFlow, `networks` and `text` apart."""
