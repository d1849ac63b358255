"""One module per sub-command of `headstart`."""
