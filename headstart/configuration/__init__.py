"""The whole of params.yaml: all its sections, and what they demand of each other."""
