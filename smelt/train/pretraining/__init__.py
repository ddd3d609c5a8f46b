"""What pretraining predicts: the objective of a recipe, its rows and its loss."""
