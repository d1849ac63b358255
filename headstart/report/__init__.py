"""One self-contained page about a whole run."""
