"""One module for each family of methods; each class holds a card and the loss terms of a method."""
