"""Backbones of KerasHub: entries, published folders, networks, downloads and text towers."""
