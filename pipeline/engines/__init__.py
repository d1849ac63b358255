"""Running a bottleneck: one fixed batch of images in, features out."""
