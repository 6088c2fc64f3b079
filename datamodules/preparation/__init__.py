"""Steps of a run that read a data set and write another, or look for what is wrong with it."""
