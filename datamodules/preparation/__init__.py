"""Steps of a run that validate a data set, or write another one from it."""
