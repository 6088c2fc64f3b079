"""What is done around a run: other runs it names, and what the user is told when something is wrong."""
