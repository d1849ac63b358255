"""What `import headstart` gives scripts and notebooks; the stages run the same code."""
