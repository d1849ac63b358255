"""What every part stands on: errors, files, params, words, runtimes. Knows no other part."""
