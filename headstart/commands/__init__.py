"""One module per sub-command of `headstart`."""

from headstart.common.interruption import guard

guard()
