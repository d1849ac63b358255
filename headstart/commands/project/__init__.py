"""A project in any folder: made from the template that the library carries, and kept up with it."""
