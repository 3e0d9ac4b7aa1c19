"""Who will come to a film that is not out yet: an encoder's vectors of plots as text tower of a recommender."""
