"""Plots of a run's page, as SVG: add one in `training`, `segmentation` or `classification`.

The page shows what the `*_figures` function of that file returns (name -> SVG), in its order.
"""
