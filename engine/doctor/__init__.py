"""do=[doctor]: checks of the machine and its environment."""
