"""What models are trained on: vocabularies, word lists, running text, and the one `Dataset` made of either."""
