"""The models that pyhash ships; MODEL_CARD.md tells about them."""
