"""The stages of dvc.yaml, one file each: what goes in, what comes out."""

from headstart.common.interruption import guard

guard()
