"""How good generated images are: distances, a classifier, memorisation."""
