"""From the bytes of a file to pixels of the wanted size, and to augmented views."""
