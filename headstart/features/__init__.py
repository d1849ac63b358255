"""Bottleneck features as they are handed on: what they are, their file, and searching them."""
