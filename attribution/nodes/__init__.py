"""The folds: a node takes an entry and gives back the node as it then is, with what follows from it."""
