"""The catalogue of backbones."""
