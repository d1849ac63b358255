"""The pages, and what builds and runs them."""
