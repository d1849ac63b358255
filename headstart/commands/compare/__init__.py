"""Running several backbones or settings as DVC experiments, and telling which is worth its cost."""
