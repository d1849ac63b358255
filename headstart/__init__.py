"""Headstart: image transfer learning from cached bottleneck features."""
