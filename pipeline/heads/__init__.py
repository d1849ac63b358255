"""Classifiers on cached bottleneck features, one module per kind."""
