"""Looking inside a trained model: where its attention goes, in pixels of the image.

Nothing of the model imports this; it needs matplotlib beside what the model needs.
"""
