"""From a classifier to pseudo masks: heat maps, boxes, masks, their quality, and how well they sit."""
