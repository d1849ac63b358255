"""`headstart check`: whether the scores hold what params.yaml promises."""
