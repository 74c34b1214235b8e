"""What an image is, what may happen to it, and what follows: pure rules, standard library only."""
