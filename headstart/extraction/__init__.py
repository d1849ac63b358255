"""Computing bottleneck features, each once: the backbone's pass and the feature store."""
