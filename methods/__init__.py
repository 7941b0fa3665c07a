"""One module per family of methods; each class is a card and its loss terms."""
