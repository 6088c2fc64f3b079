"""One module per kind of fault; each has `main(arguments)`, which returns the exit code."""
