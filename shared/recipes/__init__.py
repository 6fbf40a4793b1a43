"""Recipes: the numbers of a whole pipeline, each a YAML file, built in or anybody's own."""
