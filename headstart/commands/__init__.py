"""One module per sub-command of `headstart`."""

from headstart.common.process import guard

guard()
